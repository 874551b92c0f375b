"""A sweep in slices, where there is neither Hydra nor MLflow nor a network: an accelerator that is lent for minutes.

    python -m experiments.slices write <file> -m +study=smollm2       # where Hydra is: composes the points
    python -m experiments.slices run <file> --minutes 9               # needs PyTorch, transformers and these sources

`run` trains pack after pack, in the order in which the sweep names them, and stops before a step once the minutes are
over, with every state saved; the same command goes on from there, skips what has ended, and makes a kill good. It
writes run folders alone: copied into any `outputs_dir`, `python -m experiments.sync` imports them.

Exit status: 0 all runs have ended well, 1 some failed, 2 nothing can be run, 3 there is more to do.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.display import open_progress
from experiments.planning.costs import Assumptions, plan
from experiments.sweep import form_packs
from tinylora.records.folder import RunFolder, Status, Unmirrored
from tinylora.records.progress import labels
from tinylora.settings.config import RunConfig, as_plain
from tinylora.settings.errors import TinyLoraError, UsageError
from tinylora.settings.files import write_atomically
from tinylora.settings.recorded import from_plain

if TYPE_CHECKING:
    from tinylora.records.stopping import StopRequest

UNFINISHED = 3  # exit status
Pack = list[RunConfig]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a sweep's points, or run a slice of them; the exit status."""
    given = _parse(arguments)
    try:
        if given.command == "write":
            return write(given.file, given.overrides)
        return run(read(given.file), given.minutes)
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last saved step", file=sys.stderr)
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.slices", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="compose the points of a sweep into a file")
    writing.add_argument("file", type=Path, help="where the points go")
    writing.add_argument("overrides", nargs=argparse.REMAINDER, help="as for experiments.run; -m makes no difference")
    running = commands.add_parser("run", help="train for some minutes")
    running.add_argument("file", type=Path, help="a file of points")
    running.add_argument("--minutes", type=float, default=float("inf"), help="stop after these (default: at the end)")
    return parser.parse_args(arguments)


def write(file: Path, overrides: Sequence[str]) -> int:
    """Compose the points, write them to `file` in the order of the sweep, and print what they would cost."""
    from experiments.compose.usage import translate
    from experiments.plan import compose

    try:
        points, notes = compose([word for word in overrides if word not in ("-m", "--multirun")])
    except Exception as error:
        known = translate(error)
        if known is None:
            raise
        raise known from error
    content = {point.run_key: as_plain(point) for point in points}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(content) + "\n").encode())
    for line in [*plan(points, Assumptions(None, None, None, None, None)), *(f"note: {note}" for note in notes)]:
        print(line)
    print(f"{file}: {len(points)} points in {len(in_order(points))} packs")
    return 0


def read(file: Path) -> list[RunConfig]:
    """The points of a file, in order. Raises UsageError where it is none, or one of another version."""
    try:
        content = json.loads(file.read_bytes())
        points = [from_plain(plain) for plain in content.values()]
        keys = list(content)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{file}: {error}", "it holds the points of a sweep", "make it with `python -m experiments.slices write`"
        ) from error
    if not points or [point.run_key for point in points] != keys:
        raise UsageError(
            f"{file}", "its points are those of this version of the project", "make it again, with these sources"
        )
    return points


def in_order(points: Sequence[RunConfig]) -> list[Pack]:
    """The packs that `experiments.run` makes of the points, each where the sweep first names one of its points."""
    place = {point.run_key: number for number, point in enumerate(points)}
    return sorted(form_packs(points), key=lambda pack: place[pack[0].run_key])


def run(points: Sequence[RunConfig], minutes: float) -> int:
    """Train what has not ended, for some minutes; the exit status."""
    stop = _stop_after(minutes)
    packs, names = in_order(points), dict(zip([p.run_key for p in points], labels(points), strict=True))
    for line in plan(points, Assumptions(None, None, None, None, None)):
        print(line, flush=True)
    _check(points)
    started, before = time.monotonic(), _steps_left(points)
    for number, pack in enumerate(packs, start=1):
        if stop.reason is None and _going(pack):
            _train(pack, [names[point.run_key] for point in pack], f"pack {number} of {len(packs)}", stop)
            left = _steps_left(points)
            seconds = (time.monotonic() - started) * left / max(1, before - left)
            print(
                f"pack {number} of {len(packs)}: {_state(points)}; {_duration(seconds)} left at this pace", flush=True
            )
    return _conclude(points)


def _stop_after(minutes: float) -> StopRequest:
    """A request that is made when the minutes are over, or by SIGTERM."""
    from tinylora.records.stopping import StopRequest

    stop = StopRequest()
    if minutes < threading.TIMEOUT_MAX / 60:
        timer = threading.Timer(60 * minutes, stop.ask, (f"the slice of {minutes:g} minutes is over",))
        timer.daemon = True
        timer.start()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.ask("the process was told to end"))
    return stop


def _check(points: Sequence[RunConfig]) -> None:
    """What can be known before training; no store is looked at."""
    with open_progress() as progress:
        progress.phase(f"checking {len(points)} runs")
        from tinylora.train import preflight

        preflight.check(points, in_jobs=True)


def _train(pack: Pack, names: Sequence[str], title: str, stop: StopRequest) -> None:
    from tinylora.records.stopping import Stopped
    from tinylora.train.loop import run_pack

    with open_progress(f"{title}, {len(pack)} runs") as progress:
        try:
            run_pack(pack, names, progress, Unmirrored(), stop)
        except Stopped as stopped:
            print(f"stopped with all states saved: {stopped}", flush=True)


def _going(points: Sequence[RunConfig]) -> list[RunConfig]:
    """The points that have not ended."""
    statuses = [(point, RunFolder(point).status()) for point in points]
    return [point for point, status in statuses if status is None or not status.final]


def _steps_left(points: Sequence[RunConfig]) -> int:
    """Steps that are still to be trained, of all runs."""
    left = 0
    for point in _going(points):
        lines = RunFolder(point).lines()
        left += point.training_steps - (lines[-1].step if lines else 0)
    return left


def _state(points: Sequence[RunConfig]) -> str:
    """How many runs stand how: `60 finished, 228 waiting`."""
    counts = Counter(status.value if (status := RunFolder(point).status()) else "waiting" for point in points)
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _conclude(points: Sequence[RunConfig]) -> int:
    print(f"{len(points)} runs: {_state(points)}")
    if _going(points):
        print("the same command goes on from here")
        return UNFINISHED
    failed = [point for point in points if RunFolder(point).status() is Status.failed]
    for point in failed:
        print(f"failed: {point.run_key}: {RunFolder(point).reason()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
