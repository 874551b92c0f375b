"""How submitted sweeps stand: from the run folders and squeue, without accounting.

python -m experiments.status [sweep] [--watch] [--outputs-dir outputs]

Without an id, all sweeps. Exit status: 0 all runs finished, wait or run; 1 something failed, was lost or cancelled.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.jobs import ledger as sweeps
from experiments.jobs.ledger import Active, Sweep
from experiments.jobs.states import LaneState, State, states_of
from experiments.sync import add_outputs_dir, require_folder
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, TinyLoraError

SECONDS_BETWEEN_LOOKS = 5.0
LOOKING_SHARE = 0.02  # of the time is spent on looking, at most
SECONDS_BETWEEN_LINES = 60.0  # in brief, where nothing but the progress of what runs has changed
MANY = 40  # runs that are watched in brief


def main(arguments: list[str] | None = None) -> int:
    """Print how the sweeps stand; the exit status."""
    options = _parse(arguments)
    try:
        outputs = options.outputs_dir.expanduser().resolve()
        require_folder(outputs)
        chosen = [sweeps.find(outputs, options.sweep)] if options.sweep else sweeps.all_sweeps(outputs)
        states = look(chosen, options.watch)
        if options.sync:
            _import(outputs)
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    return 1 if any(state.state.bad for lanes in states for state in lanes) else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.status", description="How submitted sweeps stand.")
    parser.add_argument("sweep", nargs="?", help="id of a sweep, or its beginning (default: all)")
    parser.add_argument("--watch", action="store_true", help="look again every few seconds until all jobs have ended")
    parser.add_argument("--no-sync", dest="sync", action="store_false", help="do not import run folders into MLflow")
    add_outputs_dir(parser)
    return parser.parse_args(arguments)


def look(chosen: Sequence[Sweep], watch: bool) -> list[list[LaneState]]:
    """Print how sweeps stand, again and again with `watch` while any of their jobs is left; the last states."""
    if not chosen:
        print("no sweep was submitted")
    shown, shown_at = "", 0.0
    while True:
        began = time.monotonic()
        active = Active(chosen)
        states = [states_of(sweep, active) for sweep in chosen]
        brief = watch and sum(map(len, states)) > MANY
        text = "\n\n".join(describe(sweep, lanes, brief) for sweep, lanes in zip(chosen, states, strict=True))
        due = not brief or _totals(text) != _totals(shown) or time.monotonic() - shown_at > SECONDS_BETWEEN_LINES
        if text != shown and due:
            print(f"\n{time.strftime('%H:%M:%S')}\n{text}" if watch else text, flush=True)
            shown, shown_at = text, time.monotonic()
        if not watch or not any(state.state.active for lanes in states for state in lanes):
            return states
        time.sleep(max(SECONDS_BETWEEN_LOOKS, (time.monotonic() - began) / LOOKING_SHARE))


def _totals(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("  ")]


def describe(sweep: Sweep, lanes: Sequence[LaneState], brief: bool = False) -> str:
    """A sweep as text: a heading, then a line for each run; in brief, for each pack at work and each bad run."""
    counts = Counter(lane.state.value for lane in lanes)
    totals = ", ".join(f"{counts[state.value]} {state.value}" for state in State if counts[state.value])
    lines = [f"sweep {sweep.id}: {totals}{', cancelled' if sweep.cancelled else ''}"]
    widest = max((len(lane.label) for lane in lanes), default=0)
    if brief:
        running = [lane for lane in lanes if lane.state is State.running and lane.progress]
        lines += [f"  job {job}: {progress}" for job, progress in {lane.job: lane.progress for lane in running}.items()]
    for lane in lanes:
        if brief and not lane.state.bad:
            continue
        requeued = f" (requeued {lane.requeued} times)" if lane.requeued > 1 else " (requeued once)"
        state = lane.state.value + (requeued if lane.requeued else "")
        details = "; ".join(filter(None, [lane.progress, lane.note]))
        lines.append(f"  {lane.label:<{widest}}  {lane.job:<10}  {state:<12}  {details}".rstrip())
    return "\n".join(lines)


def wait_for(what: Sweep | Sequence[RunConfig]) -> FailureError | None:
    """Show progress until the jobs have ended; the error where runs did not finish.

    Points stand for a sweep of which nothing was left to submit: it waits for the jobs that have them.
    """
    chosen = [what] if isinstance(what, Sweep) else _sweeps_with(what)
    keys = set(what.runs) if isinstance(what, Sweep) else {point.run_key for point in what}
    states = [lane for lanes in look(chosen, watch=True) for lane in lanes if lane.key in keys]
    for sweep in chosen[:1]:
        _import(sweep.folder.parent.parent)
    missed = [lane for lane in states if lane.state is not State.finished]
    if not missed:
        return None
    return FailureError(
        f"{len({lane.key for lane in missed})} of {len(keys)} runs did not finish",
        "a sweep is complete when every run has finished; the list gives the reasons",
        "the same command submits what was cut short again; what failed would fail again: change its settings",
    )


def _sweeps_with(points: Sequence[RunConfig]) -> list[Sweep]:
    keys = {point.run_key for point in points}
    outputs = Path(points[0].outputs_dir).expanduser().resolve()
    return [sweep for sweep in sweeps.all_sweeps(outputs) if keys & set(sweep.runs)]


def _import(outputs: Path) -> None:
    from tinylora.records.import_runs import sync

    for problem in sync(outputs).problems:
        print(f"not imported into MLflow: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
