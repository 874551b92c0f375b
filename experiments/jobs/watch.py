"""Showing how submitted sweeps stand, once or until their jobs have ended."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.display import plain_table
from experiments.jobs.ledger import Sweep, all_sweeps
from experiments.jobs.states import Active, LaneState, State, states_of
from tinylora.records.damage import look_at
from tinylora.records.folder import RunFolder
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError

SECONDS_BETWEEN_LOOKS = 5.0
LOOKING_SHARE = 0.02  # of the time is spent on looking, at most, unless a look takes longer than 1.2 seconds
MOST_SECONDS_BETWEEN_LOOKS = 60.0
SECONDS_BETWEEN_LINES = 60.0  # in brief, where nothing but the progress of what runs has changed
SHOWN = ("model_digest", "tokenizer_digest", "data_digest")
SECONDS_WITHOUT_ANSWER = 15.0
MANY = 40  # runs that are watched in brief


def look(chosen: Sequence[Sweep], watch: bool, others: Sequence[Sweep] = ()) -> list[list[LaneState]]:
    """Print how sweeps stand, again and again with `watch` while any of their jobs is left; the last states.

    `others` are sweeps that are not shown: jobs of theirs may have runs of these.
    """
    if not chosen:
        print("no sweep was submitted as jobs; runs that were started in a terminal: `python -m analysis.build`")
    shown, shown_at = "", 0.0
    while True:
        began = time.monotonic()
        known = [*chosen, *others]
        active = active_packs(known, patient=watch)
        states = [states_of(sweep, active, known) for sweep in chosen]
        brief = watch and sum(map(len, states)) > MANY
        text = "\n\n".join(describe(sweep, lanes, brief) for sweep, lanes in zip(chosen, states, strict=True))
        due = not brief or _totals(text) != _totals(shown) or time.monotonic() - shown_at > SECONDS_BETWEEN_LINES
        if text != shown and due:
            print(f"\n{time.strftime('%H:%M:%S')}\n{text}" if watch else text, flush=True)
            shown, shown_at = text, time.monotonic()
        if not watch or not any(state.state.active for lanes in states for state in lanes):
            return states
        time.sleep(_pause(time.monotonic() - began))


def print_json(chosen: Sequence[Sweep], others: Sequence[Sweep]) -> list[list[LaneState]]:
    """Print how each run of some sweeps stands, one JSON object a line (see `LaneState.as_plain`); the states."""
    active = Active(others)
    states = [states_of(sweep, active, others) for sweep in chosen]
    for sweep, lanes in zip(chosen, states, strict=True):
        for lane in lanes:
            print(json.dumps(lane.as_plain(sweep)))
    return states


def active_packs(chosen: Sequence[Sweep], patient: bool) -> Active:
    """Which packs wait or run. Who is patient asks SLURM again where it does not answer: jobs go on without it."""
    said = None
    while True:
        try:
            return Active(chosen)
        except FailureError as error:
            if not patient:
                raise
            if error.given != said:
                again = f"asking again every {SECONDS_WITHOUT_ANSWER:.0f} s, jobs go on meanwhile"
                print(f"{time.strftime('%H:%M:%S')} {error.given}; {again}", file=sys.stderr, flush=True)
                said = error.given
            time.sleep(SECONDS_WITHOUT_ANSWER)


def _pause(looked: float) -> float:
    """Seconds until the next look, after one that took so long: a minute at most, however long it was held up."""
    return min(max(SECONDS_BETWEEN_LOOKS, looked / LOOKING_SHARE), MOST_SECONDS_BETWEEN_LOOKS)


def _totals(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("  ")]


def describe(sweep: Sweep, lanes: Sequence[LaneState], brief: bool = False) -> str:
    """A sweep as text: a heading, then a line for each run; in brief, for each running job and each bad run."""
    counts = Counter(lane.state.value for lane in lanes)
    totals = ", ".join(f"{counts[state.value]} {state.value}" for state in State if counts[state.value])
    lines = [f"sweep {sweep.id}: {totals}{', cancelled' if sweep.cancelled else ''}"]
    if brief:
        running = [lane for lane in lanes if lane.state is State.running and lane.progress]
        lines += [f"  job {job}: {progress}" for job, progress in {lane.job: lane.progress for lane in running}.items()]
    else:
        lines += [f"  {line}" for line in _made_with(sweep)]
    rows = [_row(lane) for lane in lanes if lane.state.bad or not brief]
    return "\n".join([*lines, *(f"  {line}" for line in plain_table(rows))])


def _made_with(sweep: Sweep) -> list[str]:
    """The recorded digests of model, tokenizer and data; a line for each set of them."""
    digests = [look_at(RunFolder(sweep.config(key))).digests for key in sweep.runs]
    sets = Counter(tuple((name, found.get(name, "absent")) for name in SHOWN) for found in digests if found)
    counted = [f" ({count} runs)" if len(sets) > 1 else "" for count in sets.values()]
    words = [", ".join(f"{name.removesuffix('_digest')} {digest}" for name, digest in found) for found in sets]
    return [f"made with {text}{count}" for text, count in zip(words, counted, strict=True)]


def _row(lane: LaneState) -> tuple[str, ...]:
    requeued = f" (requeued {lane.requeued} times)" if lane.requeued > 1 else " (requeued once)"
    state = lane.state.value + (requeued if lane.requeued else "")
    return lane.label, lane.job, state, "; ".join(filter(None, [str(lane.progress or ""), lane.note]))


def wait_for(what: Sweep | Sequence[RunConfig]) -> None:
    """Show progress until the jobs have ended. Raises FailureError where runs did not finish.

    Points stand for a sweep of which nothing was left to submit: it waits for the jobs that have them.
    """
    if isinstance(what, Sweep):
        chosen, keys = [what], set(what.runs)
        others = all_sweeps(what.folder.parent.parent)
    else:
        keys = {point.run_key for point in what}
        chosen = [sweep for sweep in all_sweeps(Path(what[0].outputs_dir)) if keys & set(sweep.runs)]
        others = []
    states = [lane for lanes in look(chosen, watch=True, others=others) for lane in lanes if lane.key in keys]
    for sweep in chosen[:1]:
        import_runs(sweep.folder.parent.parent)
    missed = [lane for lane in states if lane.state is not State.finished]
    if missed:
        raise FailureError(
            f"{len({lane.key for lane in missed})} of {len(keys)} runs did not finish",
            "a sweep is complete when every run has finished; the list gives the reasons",
            "the same command submits what was cut short again; what failed would fail again: change its settings",
        )


def import_runs(outputs: Path) -> None:
    """Import run folders into MLflow, and say which could not be."""
    from tinylora.records.import_runs import sync

    for problem in sync(outputs).problems:
        print(f"not imported into MLflow: {problem}", file=sys.stderr)
