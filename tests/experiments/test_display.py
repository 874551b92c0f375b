"""What is shown: few lines in a log, no more rows than a terminal has, every run in the summary."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from experiments.display import (
    LiveProgress,
    PlainProgress,
    plain_table,
    print_summary,
    select_rows,
    time_left,
    totals,
)
from tinylora.records.folder import RunRecord, Status
from tinylora.records.progress import LaneProgress
from tinylora.settings.config import ModelConfig, RunConfig

CONFIG = RunConfig(model=ModelConfig(lr_constants={"sums/grpo": 0.15}))


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lanes(count: int, step: int, state: str = "training") -> list[LaneProgress]:
    return [LaneProgress(f"u={u}", step, 60, 0.5, 24.0, state) for u in range(1, count + 1)]


def record(reason: str | None = None, skipped: bool = False) -> RunRecord:
    summary = {"trained_values": 13.0, "base/eval/test/sampled_strict": 0.5, "base/eval/test/greedy_strict": 0.25}
    if reason is not None:
        return RunRecord(CONFIG, Status.failed, reason, skipped, summary)
    trained = {"eval/test/sampled_strict": 0.625, "eval/test/greedy_strict": 0.75}
    return RunRecord(CONFIG, Status.finished, None, skipped, summary | trained)


def test_a_log_says_what_how_far_and_how_long() -> None:
    stream = io.StringIO()
    with PlainProgress(stream, "pack 1 of 2, 2 runs", Clock()) as progress:
        progress.phase("training 2 lanes")
        progress.lanes(lanes(2, 12), 180.0)
    assert stream.getvalue().splitlines() == [
        "pack 1 of 2, 2 runs",
        "training 2 lanes",
        "step 12/60, 2 runs: 2 training, reward 0.50, length 24, about 3 min left",
    ]


def test_a_long_evaluation_says_how_far_it_is_and_how_long_it_takes_still() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock=clock)
    progress.phase("evaluating")
    for share in (0.05, 0.1, 0.25):
        clock.now += 10
        progress.phase("evaluating", share)
    assert stream.getvalue().splitlines() == [
        "evaluating",
        "evaluating: 5%, about 3 min left",
        "evaluating: 10%, about 3 min left",
        "evaluating: 25%, about 2 min left",
    ]


def test_a_log_of_an_hour_is_short() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock=clock)
    for step in range(3600):
        clock.now += 1
        progress.phase(f"training {step % 7} lanes")
        progress.phase("evaluating")
        progress.lanes(lanes(64, step), None)
    assert 50 < len(stream.getvalue().splitlines()) < 250


def test_a_log_tells_of_a_failed_lane_at_once_and_once() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=Clock())
    progress.lanes(lanes(3, 1), None)
    broken = [*lanes(2, 2), LaneProgress("u=3", 1, 60, state="failed")]
    progress.lanes(broken, None)
    progress.lanes(broken, None)
    assert stream.getvalue().splitlines()[1:] == ["u=3: failed at step 1"]


def test_warnings_are_said_whatever_was_said_before() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=Clock())
    progress.warn("u=1: no signal since step 3")
    progress.warn("u=13: no signal since step 4")
    lines = ["warning: u=1: no signal since step 3", "warning: u=13: no signal since step 4"]
    assert stream.getvalue().splitlines() == lines
    console = Console(file=io.StringIO(), width=30, height=24, force_terminal=True, color_system=None)
    with LiveProgress(console) as live:
        live.warn("u=1: no signal [x] since step 3, and long")
    assert "warning: u=1: no signal [x] since step 3, and long\n" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_summary_says_the_same_warning_once_for_all_its_runs(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = replace(record(), warnings=("no signal",)), replace(record(), warnings=("no signal", "answers are cut"))
    print_summary([("u=1", one), ("u=2", two), ("u=3", record()), *((f"u={u}", one) for u in range(4, 8))])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert said == ["warning: u=1; u=2; u=4; u=5; and 2 more: no signal", "warning: u=2: answers are cut"]


def test_one_lane_is_named_and_many_are_counted() -> None:
    assert totals(lanes(1, 5)) == "u=1: step 5/60, reward 0.50, length 24"
    mixed = [*lanes(2, 5), LaneProgress("u=9", 3, 60, state="failed")]
    assert totals(mixed) == "step 5/60, 3 runs: 2 training, 1 failed, reward 0.50, length 24"
    assert totals([LaneProgress("u=1", 0, 60)]) == "u=1: step 0/60"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, ""),
        (42.4, ", about 42 s left"),
        (600.0, ", about 10 min left"),
        (9000.0, ", about 2.5 h left"),
    ],
)
def test_time_left_in_a_fitting_unit(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text


def test_trouble_is_shown_first_and_in_order() -> None:
    shown = [*lanes(3, 60, "finished"), *lanes(3, 5), LaneProgress("u=9", 3, 60, state="failed")]
    assert select_rows(shown, 3) == [shown[3], shown[4], shown[6]]
    assert select_rows(shown, 99) == shown


@pytest.mark.parametrize(("width", "height"), [(100, 24), (60, 12), (40, 10), (30, 40)])
def test_64_lanes_fit_any_terminal(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    progress = LiveProgress(console)
    progress.phase("training 64 lanes")
    progress.lanes([replace(lane, label=f"{lane.label} bf16 lr=0.001 seed=1") for lane in lanes(64, 12)], 60.0)
    console.print(progress._render())
    rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(rows) <= height and max(map(len, rows)) <= width
    assert any("u=1 bf16" in row and "12/60" in row for row in rows)


def test_a_terminal_is_left_as_it_was() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    with LiveProgress(console, "pack 1 of 1") as progress:
        progress.phase("loading")
        progress.lanes(lanes(2, 1), 3.0)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "loading" in written and written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1


def test_the_summary_has_every_run_and_the_reason_of_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [("u=1", record()), ("u=2", record(skipped=True)), ("u=3 [x]", record("the loss is nan at step 7"))]
    print_summary(runs, 246.0)
    text = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in text.splitlines()]
    key = CONFIG.run_key
    assert f"u=1 finished 13 0.500 -> 0.625 0.250 -> 0.750 {key}" in rows
    assert f"u=2 finished before 13 0.500 -> 0.625 0.250 -> 0.750 {key}" in rows
    assert f"u=3 [x] failed 13 0.500 -> - 0.250 -> - {key}" in rows  # a missing accuracy is a gap, never a zero
    assert "in 4 min 6 s" in text and f"--outputs-dir {CONFIG.outputs_dir} --open" in text
    assert "u=3 [x]: failed: the loss is nan at step 7" in text
    assert "scale models" in text


def test_a_summary_of_finished_runs_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary([("u=1000 bf16 structured", record()), ("u=1 fp32", record())])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines[:5]) <= 80 and "status" not in lines[1]


def test_lines_of_a_table_are_aligned_and_never_folded() -> None:
    long = "a reason [with brackets] :smile: " * 20
    assert plain_table([("u=1", "7", ""), ("u=13 fp32", "1,000", "")], numbers=2) == [
        "u=1            7",
        "u=13 fp32  1,000",
    ]
    assert plain_table([("u=1", "failed", long), ("u=13", "finished", "")]) == [
        f"u=1   failed    {long}".rstrip(),
        "u=13  finished",
    ]
    assert plain_table([]) == []
