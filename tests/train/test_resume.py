"""Records and resumption: what a stop, a kill or a second call leaves behind."""

import gzip
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.packs import At, interrupt, point, steps_in_mlflow

from tinylora.adapters.adapter_file import read_adapter, read_safetensors
from tinylora.models.load import TORCH_DTYPE
from tinylora.records.folder import (
    ADAPTER,
    METRICS,
    PREVIOUS,
    STATE,
    RunFolder,
    Status,
    Unmirrored,
    saved_step,
)
from tinylora.records.progress import Silent
from tinylora.records.samples import SAMPLES
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    Algorithm,
    Demonstrations,
    EvalConfig,
    GrpoConfig,
    Precision,
    Rounding,
    RunConfig,
    SftConfig,
    TaskConfig,
)
from tinylora.settings.errors import FailureError, UsageError
from tinylora.train import loop as train
from tinylora.train import pack as pack_module
from tinylora.train import recorder
from tinylora.train.loop import run_pack
from tinylora.train.state import State, common_states, load_states


def points(outputs: Path, steps: int = 4) -> list[RunConfig]:
    return [
        point(outputs, u=13, steps=steps),
        point(outputs, u=5, n_tie=3, precision=Precision.bf16, seed=1, steps=steps),
    ]


def rounded(outputs: Path) -> list[RunConfig]:
    """Lanes whose v is not all that a state needs, or follows from chance."""
    return [
        point(outputs, u=4, precision=Precision.int4, rounding=Rounding.master, steps=4),
        point(outputs, u=5, precision=Precision.bf16, rounding=Rounding.stochastic, steps=4),
    ]


def run(configs: list[RunConfig]) -> list[Status]:
    return [record.status for record in run_pack(configs, [f"u={config.u}" for config in configs], Silent())]


def final_v(outputs: Path) -> dict[str, torch.Tensor]:
    return {path.parent.name: load_file(path)["v"] for path in outputs.glob(f"*/{STATE}")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("uninterrupted")
    assert run(points(outputs)) == [Status.finished, Status.finished]
    return outputs


def test_a_run_leaves_the_whole_record(uninterrupted: Path) -> None:
    for config in points(uninterrupted):
        folder = RunFolder(config)
        lines = folder.lines()
        assert [line.step for line in lines] == [0, 1, 2, 3, 4]
        assert {"eval/test/greedy_strict", "eval/validation/sampled_flexible", "eval/merge_kl"} <= set(lines[0].metrics)
        assert "train/reward" in lines[1].metrics and "eval/test/greedy_strict" not in lines[1].metrics
        assert lines[4].metrics["eval/merge_kl"] < 1e-6
        described = folder.described() or {}
        assert described["provenance"]["trained_values"] == (13 if config.u == 13 else 35)
        spec, rank, v, header = read_adapter(folder.path / ADAPTER)
        assert (spec.u, rank, v.numel()) == (config.u, 2, described["provenance"]["trained_values"])
        assert load_file(folder.path / ADAPTER)["v"].dtype is TORCH_DTYPE[config.precision]
        assert described["provenance"]["degrees_of_freedom"] == v.numel()
        assert header["model_digest"] == described["provenance"]["model_digest"]
        assert steps_in_mlflow(config) == [0, 1, 2, 3, 4]


def test_the_same_command_again_trains_nothing(uninterrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.glob("*/*.json*")}
    monkeypatch.setattr(train, "PackRun", lambda *_: pytest.fail("a finished run was opened"))
    records = run_pack(points(uninterrupted), ["a", "b"], Silent())
    assert [record.status for record in records] == [Status.finished] * 2
    assert all(record.skipped for record in records)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert steps_in_mlflow(points(uninterrupted)[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stop", [1, 3])
def test_interrupted_and_continued_is_bitwise_the_uninterrupted_run(
    stop: int, uninterrupted: Path, outputs: Path
) -> None:
    configs = points(outputs)
    with pytest.raises(KeyboardInterrupt):
        run_pack(configs, ["a", "b"], At(stop, interrupt))
    assert [RunFolder(config).status() for config in configs] == [Status.cut_short] * 2
    assert run(configs) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def test_masters_and_chance_continue_bitwise(tmp_path: Path) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    run_pack(rounded(whole), ["a", "b"], Silent(), Unmirrored())
    with pytest.raises(KeyboardInterrupt):
        run_pack(rounded(halved), ["a", "b"], At(2, interrupt), Unmirrored())
    run_pack(rounded(halved), ["a", "b"], Silent(), Unmirrored())
    for alone in rounded(tmp_path / "alone"):
        run_pack([alone], ["alone"], Silent(), Unmirrored())
    expected, alone = final_v(whole), final_v(tmp_path / "alone")
    for key, v in final_v(halved).items():
        assert torch.equal(v, expected[key]) and v.abs().max() > 0
        torch.testing.assert_close(alone[key], v, atol=2e-3, rtol=0.02)
    for config in rounded(whole):
        lines, others = (RunFolder(c).lines() for c in (config, replace(config, outputs_dir=str(halved))))
        assert [untimed(line.metrics) for line in lines] == [untimed(line.metrics) for line in others]


def test_sampled_demonstrations_and_counts_of_tokens_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    task = TaskConfig(demonstrations=Demonstrations.sampled)
    whole, cut = (
        point(tmp_path / name, task=task, algorithm=SftConfig(prompts=4, attempts=4)) for name in ("whole", "cut")
    )
    for config in (whole, cut):
        RunFolder(config).path.mkdir(parents=True)
    run_pack([whole], ["a"], Silent(), Unmirrored())
    with pytest.raises(KeyboardInterrupt):
        run_pack([cut], ["a"], At(2, interrupt), Unmirrored())
    run_pack([cut], ["a"], Silent(), Unmirrored())
    assert torch.equal(*(load_file(config.folder / STATE)["v"] for config in (whole, cut)))
    wanted, found = (
        [{n: v for n, v in line.metrics.items() if not n.startswith("time/")} for line in RunFolder(config).lines()]
        for config in (whole, cut)
    )
    assert found == wanted
    counts = [line["train/tokens_sampled"] for line in wanted[1:]]
    assert counts == sorted(set(counts)), "they are of all steps so far"


@pytest.mark.parametrize("lost", [[0], [1], [0, 1]])
def test_a_kill_between_the_saves_of_two_lanes_changes_nothing(
    lost: list[int], uninterrupted: Path, outputs: Path
) -> None:
    """Lanes are saved one after the other; those of `lost` did not get to save the last step before the kill."""
    configs = points(outputs)
    with pytest.raises(KeyboardInterrupt):
        run_pack(configs, ["a", "b"], At(3, interrupt))
    for number in lost:
        folder = configs[number].folder
        os.replace(folder / PREVIOUS, folder / STATE)
        lines = (folder / METRICS).read_text().splitlines(keepends=True)
        (folder / METRICS).write_text("".join(lines) + lines[-1][: len(lines[-1]) // 2])  # a line cut by the kill
    assert run(configs) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def same_results(outputs: Path, wanted: Path) -> None:
    expected = final_v(wanted)
    for key, v in final_v(outputs).items():
        assert torch.equal(v, expected[key])
    for config, other in zip(points(outputs), points(wanted), strict=True):
        lines, other_lines = RunFolder(config).lines(), RunFolder(other).lines()
        assert [line.step for line in lines] == [0, 1, 2, 3, 4] == steps_in_mlflow(config)
        for line, other_line in zip(lines, other_lines, strict=True):
            assert untimed(line.metrics) == untimed(other_line.metrics)
        contents = [gzip.decompress((c.folder / SAMPLES).read_bytes()) for c in (config, other)]
        assert contents[0] == contents[1] != b""


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_resume import points, run
run(points(Path(sys.argv[1])))
"""


def test_kill_at_random_moments_loses_nothing(uninterrupted: Path, outputs: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(outputs), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    for wait in (0.05, 0.6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not list(outputs.glob(f"*/{METRICS}")) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(points(outputs)) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def test_lanes_continue_from_the_newest_step_that_all_saved() -> None:
    def saved(*steps: int) -> dict[int, State]:
        return {step: State(step, {}) for step in steps}

    def resumed(*lanes: dict[int, State]) -> list[int | None]:
        return [state.step if state else None for state in common_states(list(lanes))]

    assert resumed(saved(4, 5), saved(3, 4)) == [4, 4]
    assert resumed(saved(4, 5), saved(4, 5)) == [5, 5]
    assert resumed(saved(8, 9), saved(0, 1), {}) == [9, 1, None]


def test_more_points_join_finished_and_partial_ones(uninterrupted: Path, outputs: Path) -> None:
    configs = points(outputs)
    with pytest.raises(KeyboardInterrupt):
        run_pack(configs[:1], ["a"], At(2, interrupt))
    assert run([*configs, point(outputs, u=2, steps=4)]) == [Status.finished] * 3
    for config in configs:
        expected = final_v(uninterrupted)[config.run_key]
        torch.testing.assert_close(final_v(outputs)[config.run_key], expected, rtol=5e-3, atol=1e-5)
        assert steps_in_mlflow(config) == [0, 1, 2, 3, 4]


def test_a_diverged_lane_is_recorded_as_failed_and_left_alone_by_the_next_call(outputs: Path) -> None:
    bad = point(outputs, u=3, precision=Precision.fp16, lr=1e6, steps=2)
    good = point(outputs, u=3, precision=Precision.fp32, steps=2)
    records = run_pack([bad, good], ["bad", "good"], Silent())
    assert [record.status for record in records] == [Status.failed, Status.finished]
    assert "fp16" in (records[0].reason or "")
    again = run_pack([bad, good], ["bad", "good"], Silent())
    assert [record.skipped for record in again] == [True, True]


def test_a_lost_store_is_made_again_from_the_run_folders(uninterrupted: Path) -> None:
    (uninterrupted / "mlflow.db").unlink()
    run(points(uninterrupted))
    assert steps_in_mlflow(points(uninterrupted)[1]) == [0, 1, 2, 3, 4]


def test_a_folder_in_use_is_refused(outputs: Path) -> None:
    config = point(outputs)
    with RunFolder(config).locked(), pytest.raises(FailureError, match="another one holds"):
        run([config])


def cut_at(step: int, outputs: Path) -> list[RunConfig]:
    """The two points, interrupted after a step."""
    configs = points(outputs)
    with pytest.raises(KeyboardInterrupt):
        run_pack(configs, ["a", "b"], At(step, interrupt))
    return configs


def flip(path: Path, place: int) -> None:
    """Flip a bit of a file, counted from its end."""
    content = bytearray(path.read_bytes())
    content[-place] ^= 16
    path.write_bytes(content)


def out_of_memory(*_: object) -> None:
    raise RuntimeError("out of memory")


def test_a_damaged_folder_is_set_aside_and_the_others_go_on(uninterrupted: Path, outputs: Path) -> None:
    configs = cut_at(2, outputs)
    for name in (STATE, PREVIOUS):
        flip(configs[0].folder / name, 3)
    records = run_pack(configs, ["a", "b"], Silent())
    assert [record.status for record in records] == [Status.damaged, Status.finished]
    assert STATE in (records[0].reason or "") and RunFolder(configs[0]).status() is Status.cut_short
    assert steps_in_mlflow(configs[1]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("lane", [0, 1])
def test_a_flipped_bit_in_a_state_makes_the_run_continue_from_the_one_before(
    lane: int, uninterrupted: Path, outputs: Path
) -> None:
    configs = cut_at(3, outputs)
    flip(configs[lane].folder / STATE, 2)
    assert run(configs) == [Status.finished] * 2
    assert (configs[lane].folder / f"{STATE}.damaged").exists()
    same_results(outputs, uninterrupted)


@pytest.mark.parametrize("lost", ["all", "a middle line", "the lines after the untrained model"])
def test_a_state_without_the_lines_up_to_it_is_not_continued(lost: str, outputs: Path) -> None:
    config = cut_at(3, outputs)[0]
    path = config.folder / METRICS
    lines = path.read_text().splitlines(keepends=True)
    kept = {"all": [], "a middle line": [lines[0], *lines[2:]], "the lines after the untrained model": lines[:1]}
    path.write_text("".join(kept[lost]))
    (record,) = run_pack([config], ["a"], Silent())
    assert record.status is Status.damaged and METRICS in (record.reason or "")
    assert "its states are of step 2 and 3" in (record.reason or "")


def test_lines_that_lack_the_newest_step_continue_from_the_state_before(uninterrupted: Path, outputs: Path) -> None:
    """As a power cut can leave them, where fsync is off."""
    configs = cut_at(3, outputs)
    for config in configs:
        path = config.folder / METRICS
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert run(configs) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def test_states_beyond_the_step_from_which_a_lane_continues_are_dropped(outputs: Path) -> None:
    """Else a kill could bring them back, beside lines that another grouping of lanes has made again."""
    configs = cut_at(3, outputs)
    os.replace(configs[0].folder / PREVIOUS, configs[0].folder / STATE)
    with pytest.raises(RuntimeError), pytest.MonkeyPatch.context() as patched:
        patched.setitem(train.STEPS, Algorithm.grpo, out_of_memory)
        run(configs)
    assert [saved_step(config.folder / STATE) for config in configs] == [2, 2]
    assert not (configs[1].folder / PREVIOUS).exists()


def test_another_model_under_the_same_name_is_refused(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = point(outputs)
    with pytest.raises(KeyboardInterrupt):
        run_pack([config], ["a"], At(1, interrupt))
    monkeypatch.setattr(pack_module, "digest", lambda _: "another")
    with pytest.raises(UsageError, match="model_digest"):
        run([config])


def test_a_full_disk_stops_with_a_message_and_the_run_goes_on_later(
    uninterrupted: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = points(outputs)
    original, calls = recorder.save_state, []

    def full(folder: Path, lane: object) -> None:
        calls.append(folder)
        if len(calls) == 6:
            raise OSError(28, "No space left on device", str(folder / STATE))
        original(folder, lane)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(recorder, "save_state", full)
        with pytest.raises(FailureError, match="No space left"):
            run(configs)
    assert run(configs) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def test_an_interrupt_between_line_and_state_mirrors_no_step_that_is_made_again(
    uninterrupted: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = points(outputs)
    original, calls = recorder.save_state, []

    def interrupted(folder: Path, lane: object) -> None:
        calls.append(folder)
        if len(calls) == 6:  # the second lane at step 2: its line is written, its state is not
            raise KeyboardInterrupt
        original(folder, lane)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(recorder, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(configs)
    assert [steps_in_mlflow(config) for config in configs] == [[0, 1, 2], [0, 1]]
    assert run(configs) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def test_an_error_is_recorded_and_raised_and_the_run_goes_on_later(
    uninterrupted: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = points(outputs)
    with monkeypatch.context() as patched:
        patched.setitem(train.STEPS, Algorithm.grpo, out_of_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(configs)
    assert [RunFolder(config).status() for config in configs] == [Status.cut_short] * 2
    assert RunFolder(configs[0]).reason() == "RuntimeError: out of memory"
    assert run(configs) == [Status.finished] * 2
    same_results(outputs, uninterrupted)


def test_evaluation_every_n_steps(outputs: Path) -> None:
    settings = EvalConfig(every=2, test_items=3, validation_items=2)
    config = point(outputs, steps=3, eval=settings, algorithm=GrpoConfig(prompts=1, samples=2))
    run([config])
    evaluated = [line.step for line in RunFolder(config).lines() if "eval/test/greedy_strict" in line.metrics]
    assert evaluated == [0, 2, 3]


@pytest.mark.slow
def test_a_large_state_is_saved_now_and_then_and_the_run_continues_bit_for_bit(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (
        point(outputs / name, adapter=AdapterConfig(Adapter.full), steps=5, lr=1e-4) for name in ("whole", "cut")
    )
    run_pack([whole], ["whole"], Silent())
    monkeypatch.setattr(recorder, "SAVING_SHARE", 1e-9)  # as if a state took hours to save
    with pytest.raises(KeyboardInterrupt):
        run_pack([cut], ["cut"], At(3, interrupt))
    assert list(load_states(cut.folder)) == [0], "states were saved at every step"
    assert [line.step for line in RunFolder(cut).lines()] == [0]
    run_pack([cut], ["cut"], Silent())
    contents = [read_safetensors(config.folder / "adapter.safetensors")[0] for config in (whole, cut)]
    assert all(torch.equal(contents[0][name], contents[1][name]) for name in contents[0])
    assert max(load_states(cut.folder)) == 5


def test_asked_to_stop_is_stopped_at_a_step_with_its_state(outputs: Path) -> None:
    config, stop = point(outputs, steps=5), StopRequest()
    with pytest.raises(Stopped, match="a test wants it"):
        run_pack([config], ["a"], At(2, lambda: stop.ask("a test wants it")), Unmirrored(), stop)
    folder = RunFolder(config)
    assert folder.status() is Status.cut_short and folder.reason() == "a test wants it"
    assert folder.lines()[-1].step == 2 and saved_step(folder.path / PREVIOUS) == 1
    assert run_pack([config], ["a"], Silent(), Unmirrored())[0].status is Status.finished
    assert [line.step for line in folder.lines()] == [0, 1, 2, 3, 4, 5]
