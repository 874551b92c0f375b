"""The paper's tables and figures from records: the runs they show, hand-checked numbers, verdicts, what is missing."""

from __future__ import annotations

import io
import itertools
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis import build, options
from analysis.page import report
from analysis.page.rendering import ONLY, PAGE
from analysis.paper import conf_files
from analysis.paper.items import ITEMS, Item
from analysis.records import load, stores
from analysis.statistics import bootstrap, selection
from analysis.statistics import cells as stats
from analysis.statistics.measured import TEST
from benchmarks.report import MadeRun, made_run, write_runs
from experiments.compose.points import compose
from tinylora.settings.config import Adapter, RunConfig, as_plain, flatten

NAN = float("nan")
QWEN, LLAMA, SMALL = "qwen2.5-3b-instruct", "llama-3.2-3b-instruct", "miniature-qwen2"
POINT = {"adapter.name": "tinylora", "u": "1", "n_tie": "1", "sharing": "tiled", "precision": "fp32", "rank": "2"}


def run(
    settings: dict[str, str] | None = None,
    accuracy: float | None = None,
    *,
    model: str = QWEN,
    seed: int = 0,
    algorithm: str = "grpo",
    task: str = "gsm8k",
    lr: float = 1e-5,
    steps: int = 3,
    validation: float | None = None,
) -> MadeRun:
    """A run; with `accuracy`, that is its last sampled strict test accuracy, and its validation accuracy too."""
    made = made_run(model, task, algorithm, POINT | (settings or {}), lr, seed, steps)
    if accuracy is not None:
        made.metrics["eval/test/sampled_strict"] = [(0, 0.5), (steps, accuracy)]
        made.metrics["eval/validation/sampled_strict"] = [
            (0, 0.5),
            (steps, accuracy if validation is None else validation),
        ]
    return made


def read(store: Path) -> load.Records:
    return load.load(f"sqlite:///{store}", "tinylora")


def files_of(store: Path, *only: str) -> dict[str, bytes]:
    return report.make_files(read(store), only or options.NAMES, ("svg",))


def item(name: str) -> Item:
    return next(item for item in ITEMS if item.name == name)


def csv(files: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(files[f"{name}.csv"]))


def page(files: dict[str, bytes]) -> str:
    return " ".join(files[PAGE if PAGE in files else ONLY].decode().split())


def test_table_2_of_our_runs_has_gaps_not_zeros(store: Path) -> None:
    runs = [run({"n_tie": tie}, task="math", seed=seed) for tie in ("1", "16") for seed in (0, 1)]
    full = {"adapter.name": "full", "precision": "fp32"}
    runs.append(made_run(QWEN, "math", "grpo", full, 1e-5, 0, 3))
    for made in runs[:2]:
        del made.metrics["eval/aime24/sampled_strict"]
    write_runs(store, runs)
    table = csv(files_of(store, "table2"), "table2").set_index(["adapter", "trained_values"])
    assert math.isnan(table.loc[("tinylora", 252), "AIME24"])
    assert math.isnan(table.loc[("tinylora", 252), "average"])
    scores = table.loc[("tinylora", 16), ["GSM8K", "MATH500", "Minerva", "Olympiad", "AIME24", "AMC23"]]
    assert table.loc[("tinylora", 16), "average"] == pytest.approx(scores.mean(), abs=0.0501)
    untrained, whole = table.loc[("none", 0), "average"], table.loc["full"]["average"].iloc[0]
    kept = 100 * (table.loc[("tinylora", 16), "average"] - untrained) / (whole - untrained)
    assert table.loc[("tinylora", 16), "gain kept"] == pytest.approx(kept, rel=1e-4)


def test_defaults_of_presets_are_those_of_the_settings() -> None:
    defaults = flatten(as_plain(RunConfig(lr=1.0)))
    assert {name: str(defaults[name]) for name in conf_files.DEFAULTS if name != "adapter"} == {
        name: value for name, value in conf_files.DEFAULTS.items() if name != "adapter"
    }


SLOW_PRESETS = ("figure1", "figure2", "figure3", "figure5", "figure6", "figure7", "figure8")


@pytest.mark.parametrize(
    "preset", ["figure4", "table2", *(pytest.param(p, marks=pytest.mark.slow) for p in SLOW_PRESETS)]
)
def test_the_grid_is_that_of_the_preset(preset: str) -> None:
    """What is read from conf/paper without Hydra are the points that Hydra composes, and its item shows them."""
    points = compose([f"+paper={preset}", "seed=0", "lr=1e-4"]).points
    trained = [flatten(point.scientific()) for point in points if point.adapter.name is not Adapter.none]
    names = ("adapter.name", *(name for name in conf_files.DEFAULTS if name != "adapter"))
    composed = {frozenset((n, str(p[n])) for n in names if n in p) for p in trained}
    assert {frozenset(point.items()) for _, point in conf_files.points(preset)} == composed
    text = pd.DataFrame([{name: str(value) for name, value in point.items()} for point in trained])
    assert selection.matching(text, item(preset).selection.where).all(), preset


def test_both_readers_give_the_same_frames(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [run({"n_tie": tie}, seed=seed) for tie in ("1", "8") for seed in (0, 1)]
    made[0].metrics["train/reward"] = [(1, NAN), (2, 0.5), (3, 0.25)]
    made[1].metrics["train/reward"] = [(1, 0.1), (2, 0.2), (2, 0.3), (3, 0.4)]
    write_runs(store, made)
    fast = read(store)
    monkeypatch.setattr(load, "open_store", stores.ClientStore)
    slow = read(store)
    columns = sorted(fast.runs.columns)
    pd.testing.assert_frame_equal(fast.runs[columns], slow.runs[columns], check_dtype=False)
    pd.testing.assert_frame_equal(fast.history, slow.history, check_dtype=False)
    assert (fast.settings, fast.provenance, fast.notes) == (
        tuple(name for name in fast.settings if name in slow.settings),
        slow.provenance,
        slow.notes,
    )
    assert sorted(fast.settings) == sorted(slow.settings)


def test_figure_4_by_hand(store: Path) -> None:
    """Means over seeds of the rate that is best on validation; by bytes each value counts its size."""
    runs = []
    for precision, gain in (("fp32", 0.1), ("bf16", 0.05)):
        for tie in ("16", "1"):
            settings = {"precision": precision, "n_tie": tie}
            top = 0.6 if tie == "16" else 0.8
            runs += [run(settings, top + gain + 0.02 * seed, seed=seed) for seed in (0, 1, 2)]
            runs += [run(settings, 0.99, seed=seed, lr=1e-4, validation=0.1) for seed in (0, 1, 2)]
    write_runs(store, runs)
    files = files_of(store, "figure4", "claims")
    data = csv(files, "figure4")
    ours = data[~data["paper"] & data["x"].notna()]
    values = ours[ours["panel"] == "by trained parameters"].set_index(["series", "x"])
    assert values["mean"].to_dict() == pytest.approx(
        {
            ("tiled fp32", 16): 0.72,
            ("tiled fp32", 252): 0.92,
            ("tiled bf16", 16): 0.67,
            ("tiled bf16", 252): 0.87,
        }
    )
    assert values.loc[("tiled fp32", 16), "low"] == pytest.approx(0.70)
    assert values.loc[("tiled fp32", 16), "high"] == pytest.approx(0.74)
    assert set(ours["lr"]) == {1e-5}
    assert set(ours["rates_tried"]) == {2}
    bytes_of = ours[ours["panel"] == "by bytes of the update"].groupby("series")["x"].apply(sorted).to_dict()
    assert bytes_of == {"tiled bf16": [32, 504], "tiled fp32": [64, 1008]}
    published = data[data["paper"] & (data["panel"] == "by trained parameters")]
    assert len(published) == 29  # every value of the paper's Figure 4
    verdicts = csv(files, "claims").set_index("claim")
    row = verdicts.loc["fp32 beats bf16 at equal parameters"]
    assert row["effect"] == pytest.approx(5)
    assert (row["verdict"], row["why"]) == ("inconclusive", "no outcomes by problem are recorded")
    shown = page(files)
    assert "Missing: tinylora u=1 n_tie=32, tinylora u=1 n_tie=32 precision=bf16" in shown
    assert "By true bytes tiled bf16 leads" in shown


def test_unlike_runs_are_never_drawn_together(store: Path) -> None:
    runs = [
        run({"u": u, "n_tie": tie}, model=model, steps=steps)
        for u in ("1", "4")
        for tie in ("1", "8")
        for model in (QWEN, LLAMA)
        for steps in (3, 5)
    ]
    runs += [run({"u": u, "n_tie": tie}, task="math") for u in ("1", "4") for tie in ("1", "8")]
    write_runs(store, runs)
    files = files_of(store, "figure8")
    drawn = sorted(name for name in files if name.startswith("figure8") and name.endswith(".svg"))
    assert drawn == ["figure8-gsm8k-steps=3.svg", "figure8-gsm8k-steps=5.svg", "figure8-math.svg"]
    data = csv(files, "figure8-gsm8k-steps=3")
    ours = data[~data["paper"] & data["n_seeds"].notna()]
    assert ours.groupby(["panel", "series"])["n_seeds"].sum().min() == 2
    assert set(ours["n_seeds"].dropna()) == {1}
    assert set(ours["panel"]) == {QWEN, LLAMA}
    assert not csv(files, "figure8-math")["paper"].any()  # the paper's Figure 8 is on GSM8K


def test_one_model_in_two_types_is_two_parts(store: Path) -> None:
    runs = [
        run({"u": u, "n_tie": tie}, model=model) for u in ("1", "4") for tie in ("1", "8") for model in (QWEN, LLAMA)
    ]
    for made in runs[:2]:
        made.params["model.dtype"] = "fp32"
    write_runs(store, runs)
    files = files_of(store, "families")
    assert {name for name in files if name.startswith("families") and name.endswith(".svg")} == {
        "families-gsm8k-model.dtype=bf16.svg",
        "families-gsm8k-model.dtype=fp32.svg",
    }


def test_without_runs_an_item_says_what_makes_them(store: Path) -> None:
    write_runs(store, [run({"rank": "4"})])
    shown = page(files_of(store))
    for entry in ITEMS:
        assert entry.title in shown
        assert entry.rest or entry.command.replace("&", "&amp;") in shown
    assert "accuracy.svg" in shown  # the run belongs to no item: the general figures show it


def test_too_few_runs_are_said_and_shown_elsewhere(store: Path) -> None:
    write_runs(store, [run({"n_tie": "8"}), run({"n_tie": "1"})])
    files = files_of(store)
    assert "2 runs belong here, but with one value of precision and sharing there is nothing to compare" in page(files)
    assert "figure4.svg" not in files
    assert "accuracy.svg" in files


def test_runs_of_drawn_items_are_not_repeated(store: Path) -> None:
    write_runs(store, [run({"n_tie": tie, "precision": p}) for tie in ("1", "8") for p in ("fp32", "bf16")])
    files = files_of(store)
    assert "figure4.svg" in files
    assert "accuracy.svg" not in files and 'id="accuracy"' not in page(files)
    asked = files_of(store, "accuracy")
    assert set(asked) == {ONLY} and "Every run is shown by another item." in page(asked)


def test_the_rest_is_the_same_whether_all_or_it_alone_is_asked_for(store: Path) -> None:
    write_runs(store, [run({"n_tie": tie, "precision": p}) for tie in ("1", "8") for p in ("fp32", "bf16")])
    write_runs(store, [run({"rank": rank, "u": u}, seed=7) for rank in ("8", "32") for u in ("1", "4")])
    whole, alone = files_of(store), files_of(store, "accuracy", "training")
    for name in ("accuracy.csv", "accuracy.svg", "training.csv", "accuracy-table.md"):
        assert alone[name] == whole[name]
    assert "figure4.svg" in whole and "figure4.svg" not in alone
    assert set(csv(alone, "accuracy")["series"].dropna()) == {"GRPO fp32, rank=8", "GRPO fp32, rank=32", "untrained"}


def test_sizes_reached_in_other_ways_are_other_lines(store: Path) -> None:
    """16 values are u=16 tied, or u=1 in 16 groups: two points, of which the ratio takes the better on validation."""
    sizes = {("1", "1"): 0.8, ("1", "16"): 0.6, ("1", "all"): 0.55, ("16", "all"): 0.7}
    runs = []
    for model, lead in ((QWEN, 0.05), (LLAMA, 0.0)):
        for (u, tie), accuracy in sizes.items():
            runs += [run({"u": u, "n_tie": tie}, accuracy + lead, model=model, seed=seed) for seed in (0, 1)]
    write_runs(store, runs)
    data = csv(files_of(store, "families"), "families")
    of_qwen = data[data["series"].str.startswith(QWEN)].groupby("series")["x"].apply(sorted).to_dict()
    assert of_qwen == {f"{QWEN}, u=1": [1, 16, 252], f"{QWEN}, u=16": [16]}
    assert data[(data["series"] == f"{QWEN}, u=1") & (data["x"] == 16)]["mean"].item() == pytest.approx(0.65)


def test_the_study_shows_its_preset_by_algorithm_precision_and_size(store: Path) -> None:
    points = compose(["+study=smollm2", "seed=0"]).points
    settings = [flatten(point.scientific()) for point in points]
    text = pd.DataFrame([{name: str(value) for name, value in point.items()} for point in settings])
    assert selection.matching(text, item("study").selection.where).all()
    small = {"model": "smollm2-135m", "task": "reasoning_gym"}
    runs = []
    for algorithm, gain in (("grpo", 0.3), ("sft", 0.1)):
        for u, precision, seed in itertools.product(("1", "13", "1000"), ("fp32", "bf16"), (0, 1, 2)):
            chosen = {"u": u, "n_tie": "all", "precision": precision}
            accuracy = 0.2 + gain * (u == "1000") + 0.02 * seed
            runs.append(run(chosen, accuracy, algorithm=algorithm, seed=seed, **small))
        tied = [{"u": "1", "n_tie": "16", "sharing": sharing} for sharing in ("tiled", "structured")]
        runs += [run(chosen, 0.4, algorithm=algorithm, **small) for chosen in tied]
    write_runs(store, runs)
    data = csv(files_of(store, "study"), "study").dropna(subset=["x"])
    lines = data.set_index(["series", "x"])
    assert {name.split()[0] for name in data["series"]} == {"GRPO", "SFT"}
    assert lines.loc[("GRPO fp32", 1000), "mean"].item() == pytest.approx(0.52)
    assert lines.loc[("GRPO fp32", 1000), "low"].item() == pytest.approx(0.50)
    assert any("structured" in name for name in data["series"])


def test_failed_runs_are_listed_and_count_as_untrained(store: Path) -> None:
    runs = [run({"n_tie": tie, "precision": p}, 0.7) for tie in ("1", "8") for p in ("fp32", "bf16")]
    failed = run({"n_tie": "8"}, 0.1, seed=1)
    failed.tags.update(status="failed", reason="loss is not finite")
    write_runs(store, [*runs, failed])
    files = files_of(store, "figure4")
    assert "Counted with the untrained score: 1 failed: loss is not finite." in page(files)
    data = csv(files, "figure4")
    assert data.loc[~data["paper"] & data["x"].notna(), "mean"].unique() == pytest.approx([0.7, 0.6])


def test_ties_and_single_seeds_are_said(store: Path) -> None:
    runs = [
        run({"n_tie": tie, "precision": p}, 0.7, lr=lr)
        for tie in ("1", "8")
        for p in ("fp32", "bf16")
        for lr in (1e-6, 1e-5)
    ]
    write_runs(store, runs)
    files = files_of(store, "figure4")
    assert "Several learning rates were equally good on validation, the smallest is shown" in page(files)
    assert "1 draw a cell, so no intervals" in page(files)
    assert "<h4>Learning rates tried</h4>" in page(files) and "<td>1e-06 (at the edge)</td>" in page(files)
    data = csv(files, "figure4")
    assert set(data["lr"].dropna()) == {1e-6}


def test_the_smallest_update_by_hand(store: Path) -> None:
    """Figure 3: of the best accuracy 0.8 in all, 90% is 0.72, 95% is 0.76 and 97.5% is 0.78."""
    scores = {"all": 0.5, "64": 0.73, "8": 0.77, "1": 0.8}
    models = (QWEN, "qwen2.5-7b-instruct")
    runs = [run({"u": "1", "n_tie": tie}, score, model=model) for tie, score in scores.items() for model in models]
    best = {"adapter.name": "lora_xs", "rank": "1", "n_tie": "1"}
    runs += [run(best, 0.75, model=model) for model in models]
    write_runs(store, runs)
    found = csv(files_of(store, "figure3"), "figure3").set_index(["model", "share"])["size"]
    sizes = {(made.params["model.name"], made.params["n_tie"]): made.params["trained_values"] for made in runs[:8]}
    for model in models:
        for share, tie in ((0.9, "64"), (0.95, "8"), (0.975, "1")):
            assert found[model, share] == sizes[model, tie]


def test_one_draw_that_gains_nothing_makes_a_whole_report(store: Path) -> None:
    """The smallest size is enough for any share of no gain, and no interval or share can be given."""
    points = [point for _, point in conf_files.points("figure1")]
    runs = [run(point, 0.5, model=model, task="sums") for point in points for model in (SMALL, "smollm2-135m")]
    for made in runs:
        made.tags["scale_model"] = "true"
    write_runs(store, runs)
    files = files_of(store)
    assert "figure3.svg" in files and any(re.fullmatch(r"figure1-.*\.svg", name) for name in files)
    assert set(csv(files, "figure3")["size"]) == {min(made.params["trained_values"] for made in runs)}
    assert "nan" not in files["claims.md"].decode()


def test_a_scale_model_is_not_set_beside_the_paper(store: Path) -> None:
    runs = [
        run({"n_tie": tie, "precision": p}, model=SMALL, task="sums") for tie in ("1", "8") for p in ("fp32", "bf16")
    ]
    for made in runs:
        made.tags["scale_model"] = "true"
    write_runs(store, runs)
    files = files_of(store, "figure4")
    assert not csv(files, "figure4")["paper"].any()
    assert "A scale model is not one of the paper" in page(files)
    assert "n_tie=32" not in page(files)  # beyond its 21 maps: not missing, but impossible


@pytest.mark.slow
def test_every_item_is_drawn(store: Path, tmp_path: Path) -> None:
    runs = []
    for name in ("figure1", "figure4", "figure5", "figure7", "figure8"):
        task = "math" if name == "figure5" else "gsm8k"
        points = {tuple(sorted(point.items())): point for _, point in conf_files.points(name)}
        runs += [
            made_run(model, task, "grpo", point, 1e-5, seed, 3)
            for point in points.values()
            for model in (QWEN, LLAMA, *(["qwen2.5-7b-instruct"] if name == "figure1" else []))
            for seed in (0, 1, 2)
        ]
    points = [point for _, point in conf_files.points("figure2")]
    runs += [made_run(QWEN, "gsm8k", "sft", point, 1e-5, seed, 3) for point in points for seed in (0, 1, 2)]
    runs.append(made_run(QWEN, "gsm8k", "grpo", {"adapter.name": "none", "precision": "bf16"}, 0.0, 0, 0))
    runs += [
        run({"u": u, "n_tie": "all", "precision": kind}, model="smollm2-135m", task="reasoning_gym")
        for u in ("1", "13")
        for kind in ("fp32", "bf16")
    ]
    runs += [run({"u": "13", "n_tie": "all", "algorithm.reward": reward}) for reward in ("form", "shuffled")]
    write_runs(store, list({made.tags["run_key"]: made for made in runs}.values()))
    out = tmp_path / "out"
    assert build.main(["--outputs-dir", str(store.parent), "--out", str(out), "--format", "svg,png"]) == 0
    shown = (out / "index.html").read_text(encoding="utf-8")
    assert 'id="waiting"' not in shown
    assert len(list(out.glob("figure*.png"))) == len(list(out.glob("figure*.svg"))) >= 10
    ids = re.findall(r'\bid="([^"]*)"', shown)
    assert len(ids) == len(set(ids))
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "https://vega.github.io/schema/vega"}
    assert set(re.findall(r"https?://[\w./]+", shown)) <= names  # nothing is loaded from these
    ratios = "".join(path.read_text(encoding="utf-8") for path in out.glob("rl-sft*-table.md"))
    assert "SFT own v GRPO" in ratios
    assert (out / "claims.tex").read_text(encoding="utf-8").count("\\toprule") == 1


@pytest.mark.parametrize(
    ("option", "given", "words"),
    [
        ("--only", "figure4,figure99", "figure99 is not known"),
        ("--only", ",", "nothing is not known"),
        ("--format", "svg,gif", "gif is not known"),
    ],
)
def test_unknown_words(
    option: str, given: str, words: str, store: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_runs(store, [run()])
    assert build.main(["--outputs-dir", str(store.parent), "--out", str(tmp_path / "out"), option, given]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "rule:" in printed
    assert "remedy:" in printed


def test_intervals_of_many_cells_are_those_of_each(store: Path) -> None:
    write_runs(
        store,
        [
            run({"n_tie": tie}, 0.5 + 0.1 * seed + 0.01 * int(tie), seed=seed)
            for tie in ("1", "2", "4")
            for seed in range(4)
        ],
    )
    records = read(store)
    runs = stats.add_cells(stats.add_scores(records.runs, records.history), records.settings)
    for row in stats.summarise(runs, records.settings).to_dict("records"):
        own = runs.loc[runs["cell"] == row["cell"], TEST].to_numpy()
        low, high = bootstrap.bootstrap_interval(own)
        assert (row[f"{TEST} low"], row[f"{TEST} high"]) == pytest.approx((float(low), float(high)))


def test_runs_without_numbers_make_no_figure_and_no_error(store: Path) -> None:
    """No metrics at all, NaN at the end, a model whose runs never scored: gaps and notes, in every item."""
    runs = [run({"n_tie": tie, "precision": p}) for tie in ("1", "8") for p in ("fp32", "bf16")]
    runs += [
        run({"n_tie": tie, "u": u, "rank": r}, model=LLAMA) for tie in ("1", "8") for u in ("1", "4") for r in "24"
    ]
    runs += [run({"n_tie": tie}, NAN, algorithm="sft") for tie in ("1", "8")]
    for made in runs[:4]:
        made.metrics.clear()
    write_runs(store, runs)
    shown = page(files_of(store))
    assert "4 runs belong here, but with no test accuracy there is nothing to compare" in shown
    assert "(absent or NaN)" in shown


def test_a_seed_without_a_score_is_left_out_and_said(store: Path) -> None:
    points = [(tie, p, seed) for tie in ("1", "8") for p in ("fp32", "bf16") for seed in (0, 1)]
    accuracy = {point: NAN if point == ("8", "bf16", 1) else 0.6 + 0.1 * point[2] for point in points}
    write_runs(store, [run({"n_tie": p[0], "precision": p[1]}, accuracy[p], seed=p[2]) for p in points])
    files = files_of(store, "figure4")
    data = csv(files, "figure4").set_index(["panel", "series", "x"])
    point = data.loc[("by trained parameters", "tiled bf16", 32)]
    assert (point["mean"], point["n_seeds"]) == (pytest.approx(0.6), 1)
    assert math.isnan(point["low"])
    assert "No number for eval/test/sampled_strict at the last step (absent or NaN)" in page(files)


def test_the_texts_are_in_the_order_of_the_items() -> None:
    assert (*(item.name for item in ITEMS), options.TABLE_1, options.CLAIMS_TABLE) == options.NAMES
