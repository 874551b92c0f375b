"""What a person sees: progress on stderr (live on a terminal, else as lines), and tables on stdout."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Self, TextIO

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tinylora.engine.ranks import rank_of_process
from tinylora.records.folder import RunRecord, Status
from tinylora.records.progress import LaneProgress, Progress, Silent

SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds between lines, growing with the time that the pack has taken
FRAME_ROWS = 7  # terminal rows around the lanes: phase, frame, heading, totals
MOST_ROWS = 24
MOST_NAMED = 4  # runs of which one thing is to be said
NARROWEST = {"length": 60, "reward": 45}  # terminal columns from which a column is shown
WIDEST = 100_000  # columns of a line that is never folded
SCALE_MODELS = "Miniature models are scale models: their accuracies compare settings, not language models."
ACCURACIES = {"sampled": "eval/test/sampled_strict", "greedy": "eval/test/greedy_strict"}
"""Test accuracies of the final table, before and after training: its column and the metric."""
FINISHED = Status.finished.value


def open_progress(title: str = "") -> Progress:
    """The progress of one pack: live where stderr is a terminal, else plain lines; of several processes, in one."""
    if rank_of_process() > 0:
        return Silent()
    return LiveProgress(Console(stderr=True), title) if sys.stderr.isatty() else PlainProgress(sys.stderr, title)


class _Done:
    """How far what happens now is, and how long it still takes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.text, self.began = clock, "", clock()

    def said(self, text: str, share: float | None) -> str:
        """Appended to a line: ": 40%, about 12 s left"; empty where no share is known."""
        if text != self.text:
            self.text, self.began = text, self.clock()
        return f": {share:.0%}{time_left((self.clock() - self.began) * (1 / share - 1))}" if share else ""


class PlainProgress(Silent):
    """Lines for a log: news at once, progress that goes on as expected only now and then."""

    def __init__(self, stream: TextIO, title: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.title, self.clock = stream, title, clock
        self.started = self.said_last = clock()
        self.done = _Done(clock)
        self.seen: set[str] = set()

    def __enter__(self) -> Self:
        if self.title:
            self._say(self.title)
        return self

    def phase(self, text: str, share: float | None = None) -> None:
        """A line for a new phase; for a phase that returns, or counts on, only when there was none for a while."""
        text += self.done.said(text, share)
        if self._is_new(re.sub(r"\d+", "#", text)) or self._paused():
            self._say(text)

    def warn(self, text: str) -> None:
        """The text, whatever was said before."""
        self._say(f"warning: {text}")

    def lanes(self, lanes: Sequence[LaneProgress], seconds_left: float | None) -> None:
        """A line for each lane that has ended otherwise than finished, and now and then one for all."""
        for lane in lanes:
            if lane.state not in ("training", "finished") and self._is_new(f"{lane.label} {lane.state}"):
                self._say(f"{lane.label}: {lane.state} at step {lane.step}")
        if self._is_new("lanes") or self._paused():
            self._say(f"{totals(lanes)}{time_left(seconds_left)}")

    def _is_new(self, what: str) -> bool:
        new = what not in self.seen
        self.seen.add(what)
        return new

    def _paused(self) -> bool:
        now = self.clock()
        pause = min(max(SHORTEST_PAUSE, (now - self.started) / 50), LONGEST_PAUSE)
        return now - self.said_last >= pause

    def _say(self, text: str) -> None:
        self.said_last = self.clock()
        print(text, file=self.stream, flush=True)


class LiveProgress(Live):
    """A table of the lanes that redraws itself and is gone at the end."""

    def __init__(self, console: Console, title: str = "") -> None:
        self.title, self.text = title, ""
        self.done = _Done(time.monotonic)
        self.seconds_left: float | None = None
        self.shown: Sequence[LaneProgress] = ()
        super().__init__(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def phase(self, text: str, share: float | None = None) -> None:
        """Show what happens now; the time left, which is that of training, is forgotten where this changes."""
        text += self.done.said(text, share)
        if text != self.text:
            self.text, self.seconds_left = text, None

    def warn(self, text: str) -> None:
        """The text, above what redraws itself, where it stays."""
        self.console.print(Text(f"warning: {text}"), soft_wrap=True)

    def lanes(self, lanes: Sequence[LaneProgress], seconds_left: float | None) -> None:
        """Show where the lanes are."""
        self.shown, self.seconds_left = lanes, seconds_left

    def _render(self) -> Group:
        title = f"{self.title}: " if self.title else ""
        heading = Spinner("dots", Text(f"{title}{self.text}{time_left(self.seconds_left)}"))
        if not self.shown:
            return Group(heading)
        rows = select_rows(self.shown, min(MOST_ROWS, max(self.console.height - FRAME_ROWS, 1)))
        return Group(heading, _lane_table(rows, self.console.width), Text(totals(self.shown)))


def _lane_table(lanes: Sequence[LaneProgress], width: int) -> Table:
    """The lanes as rows; a narrow terminal shows fewer columns, so that labels stay readable."""
    columns = {
        "step": [f"{lane.step}/{lane.steps}" for lane in lanes],
        "reward": [_number(lane.reward, 2) for lane in lanes],
        "length": [_number(lane.tokens, 0) for lane in lanes],
        "state": [lane.state for lane in lanes],
    }
    columns = {name: cells for name, cells in columns.items() if width >= NARROWEST.get(name, 0)}
    taken = sum(max(len(text) for text in (name, *cells)) + 2 for name, cells in columns.items())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=max(width - taken - 4, 8))
    for name in columns:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for lane, *row in zip(lanes, *columns.values(), strict=True):
        table.add_row(Text(lane.label), *row, style={"training": "", "finished": "green"}.get(lane.state, "red"))
    return table


def select_rows(lanes: Sequence[LaneProgress], count: int) -> list[LaneProgress]:
    """The `count` lanes to show, in their order: those in trouble before those that train before the finished."""
    rank = {"training": 1, "finished": 2}
    chosen = sorted(range(len(lanes)), key=lambda index: rank.get(lanes[index].state, 0))[:count]
    return [lanes[index] for index in sorted(chosen)]


def totals(lanes: Sequence[LaneProgress]) -> str:
    """All lanes in one line: "step 12/60, 8 runs: 7 training, 1 failed, reward 0.31, length 24"."""
    if len(lanes) == 1:
        who = f"{lanes[0].label}: step {lanes[0].step}/{lanes[0].steps}"
    else:
        states = Counter(lane.state for lane in lanes)
        counts = ", ".join(f"{number} {state}" for state, number in states.items())
        who = f"step {max(lane.step for lane in lanes)}/{lanes[0].steps}, {len(lanes)} runs: {counts}"
    rewards = [lane.reward for lane in lanes if lane.reward is not None and lane.state == "training"]
    lengths = [lane.tokens for lane in lanes if lane.tokens is not None and lane.state == "training"]
    reward = f", reward {fmean(rewards):.2f}" if rewards else ""
    length = f", length {fmean(lengths):.0f}" if lengths else ""
    return who + reward + length


def counted(number: int, noun: str) -> str:
    """For a line: "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_left(seconds: float | None) -> str:
    """Appended to a line: ", about 3 min left"; empty where it is not known, and at the end."""
    if not seconds:
        return ""
    if seconds < 90:
        return f", about {seconds:.0f} s left"
    if seconds < 90 * 60:
        return f", about {seconds / 60:.0f} min left"
    return f", about {seconds / 3600:.1f} h left"


def print_summary(records: Sequence[tuple[str, RunRecord]], seconds: float | None = None) -> None:
    """The table of a sweep's runs, each a label and its record, with the reasons of those that did not finish.

    Then how many `seconds` the sweep took, and what to do next.
    """
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    statuses = [f"{record.status.value} before" if record.skipped else record.status.value for _, record in records]
    shown = set(statuses) != {FINISHED}
    for name in (*(["status"] if shown else []), "values", *ACCURACIES):
        table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    table.add_column("folder", no_wrap=True)
    for (label, record), status in zip(records, statuses, strict=True):
        changes = [_change(record, name) for name in ACCURACIES.values()]
        values = _number(record.summary.get("trained_values"), 0)
        table.add_row(Text(label), *([status] if shown else []), values, *changes, record.config.run_key)
    if console.is_terminal:
        console.print(table)
    else:
        print("\n".join(whole_lines(table)))
    for label, record in records:
        if record.reason:
            print(f"{label}: {record.status.value}: {record.reason}")
    _print_warnings(records)
    if any(record.config.model.identity.startswith("miniature") for _, record in records):
        print(SCALE_MODELS)
    _print_next(records, seconds)


def _change(record: RunRecord, name: str) -> str:
    """An accuracy before and after training: 0.451 -> 0.652."""
    return f"{_number(record.summary.get(f'base/{name}'), 3)} -> {_number(record.summary.get(name), 3)}"


def _print_next(records: Sequence[tuple[str, RunRecord]], seconds: float | None) -> None:
    """Where the runs lie, how long all of it took, and the commands that show more."""
    folders = list(dict.fromkeys(record.config.outputs_dir for _, record in records))
    took = f", in {minutes_and_seconds(seconds)}" if seconds is not None else ""
    print(f"folders of the runs: {', '.join(folders)}{took}")
    for folder in folders:
        place = "" if Path(folder) == Path.cwd() / "outputs" else f" --outputs-dir {shlex.quote(folder)}"
        print(f"next: python -m analysis.build{place} --open")
        print(f"      python -m experiments.samples {shlex.quote(folder)} --flips")


def minutes_and_seconds(seconds: float) -> str:
    """A time that is over: "48 s", "4 min 6 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _print_warnings(records: Sequence[tuple[str, RunRecord]]) -> None:
    """What was said of the training of runs: the same words once, with the names of all runs that they are of."""
    said: dict[str, list[str]] = {}
    for label, record in records:
        for warning in record.warnings:
            said.setdefault(warning, []).append(label)
    for warning, names in said.items():
        more = f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        print(f"warning: {'; '.join(names[:MOST_NAMED])}{more}: {warning}")


def plain_table(rows: Sequence[Sequence[str]], numbers: int = 0) -> list[str]:
    """Rows as lines of aligned columns without a frame; the last `numbers` columns are aligned to the right."""
    if not rows:
        return []
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column >= len(rows[0]) - numbers else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return whole_lines(table)


def whole_lines(table: Table) -> list[str]:
    """A table as plain lines, as wide as they need to be: for files, pipes and logs, in which nothing may be folded."""
    if Console().options.ascii_only:  # a terminal that has no lines to draw
        table.box = box.ASCII
    stream = StringIO()
    Console(file=stream, width=WIDEST, color_system=None, force_terminal=False).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def visible(text: str) -> str:
    """A text without characters that a terminal would obey: they are shown as in Python, `\\x1b`."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def page(lines: Sequence[str]) -> None:
    """Print lines, which may be many; on a terminal in the pager (PAGER, or less)."""
    console = Console()
    if not console.is_terminal:
        print("\n".join(lines))
        return
    with console.pager():
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
