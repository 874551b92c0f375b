"""The paper's experiments as presets: their grids are the paper's numbers, and they fit the models they run on."""

import shlex
from collections import Counter
from pathlib import Path

import pytest

from analysis.paper.items import ITEMS, Item
from experiments.compose.fitting import shape_of
from experiments.compose.points import compose
from experiments.plan import main as plan_main
from experiments.planning.costs import plan
from experiments.planning.estimate import operations, rows_bytes, run_tokens, step_bytes, trained_values
from experiments.planning.packing import form_packs
from tinylora.models.shapes import shape_parameters
from tinylora.settings.algorithms import samples_of
from tinylora.settings.config import Adapter, Algorithm, GrpoConfig, RunConfig, Strict

ROOT = Path(__file__).parents[2]
RUN = "python -m experiments.run -m "
STUDY_LINES = (ROOT / "analysis" / "study" / "study.sh").read_text().splitlines()
(SMALL,) = (line.partition("(")[2].partition(")")[0] for line in STUDY_LINES if line.startswith("small="))
STUDY = [
    shlex.split(line.replace("$both", "model=miniature-qwen2,miniature-llama").replace('"${small[@]}"', SMALL))[1:]
    for line in STUDY_LINES
    if line.startswith("sweep ")
]
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "paper").glob("*.yaml"))
OTHER_READING = "+protocol=gsm8k_grpo_completions"
SIZES = {  # trained values of the paper by preset, model and adapter
    ("figure1", "qwen2.5-7b-instruct", Adapter.tinylora): {1, 2, 4, 7, 13, 25, 49, 64, 98, 196},
    ("figure1", "qwen2.5-7b-instruct", Adapter.lora_xs): {
        1600,
        4096,
        12544,
        16384,
        102400,
        262144,
        802816,
        1048576,
        6553600,
        51380224,
    },
    ("figure1", "qwen2.5-7b-instruct", Adapter.lora): {2523136 * rank for rank in (1, 2, 8, 32, 64, 128)},
    ("figure2", "qwen2.5-7b-instruct", Adapter.tinylora): {1, 4, 25},
    ("figure2", "qwen2.5-7b-instruct", Adapter.lora_xs): {196, 12544, 802816, 12845056},
    ("figure4", "qwen2.5-3b-instruct", Adapter.tinylora): {8, 14, 16, 21, 32, 35, 63, 126, 252},
    ("figure5", "qwen2.5-3b-instruct", Adapter.tinylora): {252, 504, 8064, 129024},
    ("figure5", "qwen2.5-7b-instruct", Adapter.tinylora): {196, 392, 6272, 100352},
    ("figure6", "qwen2.5-0.5b-instruct", Adapter.lora_xs): {168, 2688, 43008, 688128},
    ("figure6", "qwen2.5-1.5b-instruct", Adapter.lora_xs): {196, 3136, 50176, 802816},
    ("figure6", "qwen2.5-3b-instruct", Adapter.lora_xs): {252, 4032, 64512, 1032192},
    ("figure6", "qwen2.5-7b-instruct", Adapter.lora_xs): {196, 1600, 12544, 802816, 51380224},
    ("figure8", "qwen2.5-3b-instruct", Adapter.tinylora): {
        groups * u for groups in (1, 4, 32, 252) for u in (1, 4, 16, 64)
    },
    ("table2", "qwen2.5-3b-instruct", Adapter.tinylora): {16, 63, 252, 504, 8064, 129024},
    ("table2", "qwen2.5-7b-instruct", Adapter.tinylora): {13, 49, 196, 392, 6272, 100352},
    ("table2", "qwen2.5-math-7b", Adapter.tinylora): {196, 392, 6272, 100352},
}


def values_of(point: RunConfig) -> int:
    shape = shape_of(point.model)
    assert shape is not None
    return trained_values(point, shape)


@pytest.mark.parametrize("words", [["+paper=figure1", OTHER_READING], [OTHER_READING, "+paper=figure1"]])
def test_a_batch_of_64_may_count_completions(words: list[str]) -> None:
    (point,) = compose([*words, "u=1", "n_tie=16", "adapter=tinylora", "lr=1e-4", "seed=0"]).points[:1]
    assert isinstance(point.algorithm, GrpoConfig)
    assert point.algorithm.prompts * point.algorithm.samples == 64
    assert point.steps == 3 * 7473 // 16 == 1401
    (usual,) = compose(["+paper=figure1", "u=1", "n_tie=16", "adapter=tinylora", "lr=1e-4", "seed=0"]).points[:1]
    assert (usual.steps, usual.algorithm.prompts, point.task) == (350, 64, usual.task)


def test_the_protocols_ask_and_score_as_their_sources() -> None:
    for preset, strict in {"figure1": Strict.verl, "figure2": Strict.verl, "table2": Strict.simplerl}.items():
        (point,) = compose([f"+paper={preset}", "lr=1e-4", "seed=0"]).points[:1]
        assert point.task.strict is strict
        math = strict is Strict.simplerl
        assert point.task.system_message == ("You are a helpful assistant." if math else None)
        assert point.task.max_prompt_tokens == (1024 if math else None)
        if isinstance(point.algorithm, GrpoConfig):
            assert point.algorithm.entropy_coefficient == point.algorithm.kl_coefficient == (0.001 if math else 0.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_papers_sizes(preset: str) -> None:
    composition = compose([f"+paper={preset}", "seed=0", "lr=1e-4"])
    points, notes = composition.points, composition.notes
    assert all(point.paper == preset for point in points)
    assert not any("left out" in note for note in notes)
    for (of_preset, model, adapter), sizes in SIZES.items():
        if of_preset == preset:
            own = [p for p in points if p.model.name == model and p.adapter.name is adapter]
            assert {values_of(point) for point in own} == sizes


@pytest.mark.parametrize("preset", ["figure2", "figure5", "figure7"])  # one of each protocol
def test_a_preset_has_the_papers_rates_and_seeds(preset: str) -> None:
    points = compose([f"+paper={preset}", "model=qwen2.5-3b-instruct", "u=1"]).points
    trained = [point for point in points if point.adapter.name is not Adapter.none]
    assert {point.lr for point in trained} == {1e-7, 5e-7, 1e-6, 5e-6, 1e-5, 1e-4, 2e-4}
    assert {point.seed for point in trained} == {0, 1, 2}


def test_the_rates_and_seeds_of_a_size_are_lanes_of_one_pack() -> None:
    points = compose(["+paper=figure8", "model=qwen2.5-3b-instruct"]).points
    assert len(points) == 16 * 21
    for pack in form_packs(points):
        sizes = Counter((point.u, point.n_tie) for point in pack)
        assert len(pack) <= 32 and max(sizes.values()) <= 21


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", ["miniature-qwen2", pytest.param("smollm2-135m", marks=pytest.mark.slow)])
def test_a_preset_on_a_small_model_is_in_small_and_says_what_does_not_fit(preset: str, model: str) -> None:
    composition = compose([f"+paper={preset}", f"model={model}", "seed=0", "lr=1e-3"])
    points, notes = composition.points, composition.notes
    assert {point.model.name for point in points} == {model}
    assert {point.steps for point in points} == ({60} if model == "miniature-qwen2" else {100})
    task = "sums" if model == "miniature-qwen2" else ("math" if preset in ("figure5", "table2") else "gsm8k")
    assert {point.task.name for point in points} == {task}
    assert all(values_of(point) >= 0 for point in points)
    if (preset, model) == ("figure4", "miniature-qwen2"):
        assert "figure4 on miniature-qwen2: n_tie=32 sharing=tiled is beyond its 21 maps: 3 points left out" in notes
    if (preset, model) == ("figure1", "miniature-qwen2"):
        assert any("rank=512 is beyond its narrowest map (96): 4 points" in note for note in notes)


def test_what_is_given_by_hand_replaces_the_axis_of_a_preset() -> None:
    points = compose(
        ["+paper=figure4", "lr=1e-3", "seed=5,6", "precision=bf16", "steps=3", "model=miniature-qwen2"]
    ).points
    assert {(p.lr, p.precision.value, p.steps) for p in points} == {(1e-3, "bf16", 3)}
    assert {point.seed for point in points} == {5, 6}


def test_a_plan_counts_what_the_paper_counts() -> None:
    points = compose(["+paper=table2", "model=qwen2.5-7b-instruct"]).points
    lines = "\n".join(plan(points))
    for number in ("13 ", "49 ", "196 ", "392 ", "6,272 ", "100,352 "):
        assert f" {number}" in lines
    assert "127 points" in lines and "hours: about" in lines and "7,615,487,488 parameters" in lines


def test_a_plan_uses_what_was_measured_and_leaves_out_what_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from support.packs import point

    from tinylora.records.folder import RunFolder, Status

    small = ["lr=0.05", "steps=3", "algorithm.prompts=4", "algorithm.samples=4", f"outputs_dir={tmp_path}"]
    points = compose([*small, "seed=0,1"]).points
    assert point(tmp_path).algorithm == points[0].algorithm
    for config in points:  # two lanes of one pack: the same seconds
        config.folder.mkdir()
        folder = RunFolder(config)
        made_with = {"model_digest": "m", "data_digest": "d", "prompt_digest": "p"}
        folder.describe(made_with if config is points[1] else {})
        folder.append(0, {})
        for step in (1, 2, 3):
            times = {"time/rollout_s": 2.0 + step, "time/train_s": 1.0 + step}
            folder.append(step, {"train/completion_tokens": 10.0 * step} | times)
    RunFolder(points[0]).conclude(Status.finished, None, {})
    monkeypatch.setattr("sys.argv", ["plan", "-m", *small, "seed=0,1"])
    assert plan_main() == 0
    shown = capsys.readouterr().out
    # 2 lanes x 16 completions x (10 + 20 + 30) tokens in 3 + 4 + 5 and 2 + 3 + 4 seconds
    assert "measured here: 160 tokens/s sampled, 213 trained on" in shown and "with 20 a response (measured" in shown
    assert "2 points in 1 pack; 1 have ended" in shown and "1 point in 1 pack would run" in shown


@pytest.mark.parametrize(
    ("line", "named"),
    [("u=abc", "u=abc"), ("+paper=figure99", "figure99"), ("model=nope", "model=nope"), ("modle=x", "modle=x")],
)
def test_a_plan_of_what_cannot_run_is_refused_as_the_run_is(
    line: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["plan", *line.split()])
    assert plan_main() == 2
    message = capsys.readouterr().err
    assert named in message and "rule:" in message and "remedy:" in message


OWN = [item for item in ITEMS if "+paper=" not in item.command]  # other tests compose the paper's presets


@pytest.mark.parametrize("item", OWN, ids=lambda item: item.name)
def test_the_command_that_the_report_names_for_an_item_makes_points(item: Item) -> None:
    for command in item.command.split(" && "):
        assert command.startswith(RUN)
        assert compose(command.removeprefix(RUN).split()).points


def test_the_study_names_its_sweeps() -> None:
    assert len(STUDY) == 11


@pytest.mark.slow
@pytest.mark.parametrize("words", STUDY, ids=" ".join)
def test_each_sweep_of_the_study_is_of_miniatures_and_evaluated_alike(words: list[str]) -> None:
    points = compose([*words, "lr=search", "seed=0,1"]).points
    assert {point.model.name for point in points} <= {"miniature-qwen2", "miniature-llama"}
    assert {(point.eval.test_items, point.eval.validation_items, point.eval.samples) for point in points} == {
        (1024, 256, 4)
    }


@pytest.mark.slow
def test_sft_of_the_study_has_as_many_demonstrations_as_grpo_has_completions() -> None:
    rl, sft = (next(words for words in STUDY if f"+study={name}" in words) for name in ("sizes", "supervised"))
    completions = {
        point.steps * point.algorithm.prompts * point.algorithm.samples
        for point in compose([*rl, "lr=search", "seed=0"]).points
        if isinstance(point.algorithm, GrpoConfig) and point.trains
    }
    demonstrations = {
        point.steps * point.algorithm.prompts for point in compose([*sft, "lr=search", "seed=0"]).points if point.trains
    }
    assert completions == demonstrations


def test_what_else_could_explain_a_gain_has_the_effort_of_the_controls_and_leaves_these_alone() -> None:
    controls = compose(["+study=controls", "lr=0.01"]).points
    assert {point.run_key for point in controls} == {
        point.run_key
        for reward in ("correct", "form", "shuffled")
        for size in (["u=1", "n_tie=2"], ["u=13", "n_tie=all"])
        for point in compose(
            [*size, f"algorithm.reward={reward}", "algorithm.prompts=16", "algorithm.samples=4", "lr=0.01"]
        ).points
    }
    points = compose(["+study=explained", "lr=0.01"]).points
    searched = [point for point in points if point.trains]
    assert {(p.algorithm.name, p.steps, p.algorithm.prompts, samples_of(p.algorithm)) for p in searched} == {
        (Algorithm.random_search, p.steps, p.algorithm.prompts, samples_of(p.algorithm)) for p in controls
    }
    sizes = Counter((point.u, point.n_tie) for point in searched)
    assert sizes == {(13, "all"): 1, (1, 2): 1} and sizes.keys() == {(p.u, p.n_tie) for p in controls}
    assert [point.rollout.end_bias for point in points if not point.trains] == [-4, -2, -1, 1, 2, 4]


def test_a_random_search_costs_what_it_samples() -> None:
    (grpo,), (searched,) = (
        compose([f"algorithm={name}", "algorithm.prompts=16", "algorithm.samples=4", "lr=0.01"]).points
        for name in ("grpo", "random_search")
    )
    shape, (trained, tried) = shape_of(grpo.model), [run_tokens(point, 20) for point in (grpo, searched)]
    assert shape is not None and tried.sampled == trained.sampled and tried.trained == 0 < trained.trained
    assert operations(searched, shape, tried) == 2.0 * shape_parameters(shape) * tried.sampled
    assert step_bytes(searched) == step_bytes(grpo) and rows_bytes(searched, shape) == rows_bytes(grpo, shape)
