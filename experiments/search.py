"""`lr=search`: rates are tried until the best of them has a worse one on each side.

    python -m experiments.run -m u=1,13 lr=search seed=0,1

Points that differ in nothing but their draws (`seed`, `projection_seed`) search together. They begin with three rates a
factor of 3 apart, or with the rates at which they have run already, where these are three or more. The best rate is the
one with the highest mean accuracy on validation problems, sampled and strict; a run that failed counts as the untrained
model. While the best rate is at an end of those that were tried, the next one beyond that end is tried, too; nothing is
tried in between. Where even the best is clearly worse than the untrained model, all were too large: the next smaller
one is tried. Each round of all groups is one sweep, so that they share packs.

A search keeps no state: where it stands follows from the records, round by round. So the same command goes on. Other
draws are then trained at the rates that were found by `lr=found` (`experiments.found`).
"""

from __future__ import annotations

import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from experiments.compose.points import distinct
from experiments.compose.words import FOUND, SEARCH
from experiments.display import counted, plain_table
from tinylora.engine.ranks import rank_of_process
from tinylora.records.damage import status_of
from tinylora.records.folder import DamagedError, RunFolder, Status, read_config, run_folders
from tinylora.records.progress import labels
from tinylora.settings.config import AUTO, RunConfig
from tinylora.settings.errors import FailureError
from tinylora.settings.identity import digest
from tinylora.settings.rates import guess_of
from tinylora.settings.rules import LARGEST_FP32, SMALLEST_FP32

FACTOR = 3.0
MOST_RATES = 11  # of a group: three, and eight beyond them
METRIC = "eval/validation/sampled_strict"
SLACK = 0.03  # of accuracy below the untrained model: two standard errors of 256 problems, of which half are right
DRAWS = ("seed", "projection_seed")  # settings in which the points of a group differ
Runs = dict[float, list[RunConfig]]
"""The runs of a group that have ended, by rate."""


def first_rates(middle: float) -> list[float]:
    """The rates that a search begins with: three, around `middle`, in three digits."""
    return [_rounded(middle / FACTOR), _rounded(middle), _rounded(middle * FACTOR)]


def next_rates(tried: Mapping[float, float | None], untrained: float = 0.0) -> list[float]:
    """The rates to run next, from the scores of those that were tried (at least one); none where the search is over.

    A score of None is not known yet: such rates come first. Else those beyond an end that no other rate has beaten, or
    below all where none comes near the score of the untrained model.
    """
    if waiting := sorted(rate for rate, score in tried.items() if score is None):
        return waiting
    beyond = [_rounded(rate / FACTOR if rate == min(tried) else rate * FACTOR) for rate in _ends(tried, untrained)]
    room = MOST_RATES - len(tried)
    return [rate for rate in beyond if SMALLEST_FP32 <= rate <= LARGEST_FP32][: max(0, room)]


def best_is_inside(tried: Mapping[float, float | None], untrained: float = 0.0) -> bool:
    """Whether all scores are known, and both the smallest and the largest rate are worse than one between them."""
    return None not in tried.values() and not _ends(tried, untrained)


def best_rate(tried: Mapping[float, float | None]) -> float:
    """The rate with the highest score of those that are known, the smallest of several."""
    known = {rate: score for rate, score in tried.items() if score is not None}
    return min(rate for rate, score in known.items() if score == max(known.values()))


def _ends(tried: Mapping[float, float | None], untrained: float) -> list[float]:
    """The smallest and the largest rate, where no rate between them is better; the smallest, where all do harm."""
    scores = {rate: score for rate, score in tried.items() if score is not None}
    if max(scores.values()) < untrained - SLACK:
        return [min(scores)]
    return [rate for rate in dict.fromkeys((min(scores), max(scores))) if scores[rate] == max(scores.values())]


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


@dataclass(frozen=True, eq=False)
class Group:
    """Points that differ in their draws alone, and share a rate."""

    label: str
    points: tuple[RunConfig, ...]

    def at(self, rate: float) -> list[RunConfig]:
        """Its points with this rate."""
        return [replace(point, lr=rate) for point in self.points]

    @property
    def middle(self) -> float:
        """The rate around which its search begins: what `lr=auto` stands for, else a guess, the same for every size."""
        point = self.points[0]
        known = point.lr_key in point.model.lr_constants
        return replace(point, lr=AUTO).learning_rate if known else guess_of(point.adapter.name, point.algorithm.name)


@dataclass(frozen=True)
class Standing:
    """Where a search stands."""

    points: list[RunConfig]
    """Of the round to be run, those that have ended included, so that its packs stay the same; none in the end."""
    tried: dict[Group, dict[float, float | None]]
    """The score of each rate of the rounds before."""


def standing(points: Sequence[RunConfig]) -> Standing:
    """Where the search for the rates of some points stands, by their run folders. What trains nothing runs once."""
    tried: dict[Group, dict[float, float | None]] = {group: {} for group in groups_of(points)}
    known = recorded(list(tried))
    new = {group: _begin(group, known[group]) for group in tried}
    asked = [point for point in points if not point.trains]
    while any(new.values()):
        asked += [point for group, rates in new.items() for rate in rates for point in group.at(rate)]
        asked = distinct(asked)
        if not all(map(_has_ended, asked)):
            return Standing(asked, tried)
        for group, rates in new.items():
            tried[group] |= {rate: accuracy(group.at(rate)) for rate in rates}
        new, asked = {group: next_rates(scores, untrained(group, scores)) for group, scores in tried.items()}, []
    return Standing([], tried)


def recorded(groups: Sequence[Group]) -> dict[Group, Runs]:
    """The runs of each group that have ended, of any draw, by rate."""
    by_key = {key_of(group.points[0]): group for group in groups}
    found: dict[Group, Runs] = {group: defaultdict(list) for group in groups}
    for place in {point.outputs_dir for group in groups for point in group.points}:
        for path in run_folders(Path(place)):
            try:
                config = read_config(path, Path(place))
            except DamagedError:  # `status` and `build` name it
                continue
            if config.trains and (group := by_key.get(key_of(config))) and _has_ended(config):
                found[group][config.learning_rate].append(config)
    return found


def draw_of(run: RunConfig) -> tuple[int, int]:
    """What tells runs of a group apart at one rate."""
    return run.seed, run.projection_root


def _begin(group: Group, runs: Runs) -> list[float]:
    """The first rates of a search: those around the middle, or a grid that has run and lacks some of them."""
    own = {draw_of(point) for point in group.points}
    rates = sorted(rate for rate, those in runs.items() if own & {draw_of(run) for run in those})
    first = first_rates(group.middle)
    return first if len(rates) < len(first) or set(first) <= set(rates) else rates


def groups_of(points: Sequence[RunConfig]) -> list[Group]:
    """The groups of points that search together, in order. The rates of the points do not matter."""
    found: dict[str, list[RunConfig]] = {}
    for point in (point for point in points if point.trains):
        found.setdefault(key_of(point), []).append(replace(point, lr=1.0))
    firsts = [replace(own[0], seed=0) for own in found.values()]
    names = labels(firsts) if len(firsts) > 1 else [f"adapter={first.adapter.name.value}" for first in firsts]
    return [Group(name, tuple(distinct(own))) for name, own in zip(names, found.values(), strict=True)]


def key_of(point: RunConfig) -> str:
    """Equal for points that search together: they differ in nothing but their draws and rates."""
    return digest({name: value for name, value in point.scientific().items() if name not in ("lr", *DRAWS)})


def accuracy(points: Sequence[RunConfig]) -> float:
    """Mean accuracy on validation problems of runs that have ended; that of the untrained model where one failed."""
    records = [RunFolder(point).record(skipped=True) for point in points]
    untrained = next((r.summary[name] for r in records if (name := f"base/{METRIC}") in r.summary), 0.0)
    return fmean(r.summary[METRIC] if r.status is Status.finished else untrained for r in records)


def untrained(group: Group, rates: Iterable[float]) -> float:
    """The score of the untrained model in the runs of a group at these rates."""
    return untrained_score([point for rate in rates for point in group.at(rate)])


def untrained_score(points: Sequence[RunConfig]) -> float:
    """Mean accuracy of the untrained model on validation problems, in the runs that have measured it."""
    records, name = [RunFolder(point).record(skipped=True) for point in points], f"base/{METRIC}"
    scores = [record.summary[name] for record in records if name in record.summary]
    return fmean(scores) if scores else 0.0


def search_rates(points: Sequence[RunConfig], launch: Callable[[Sequence[RunConfig]], None]) -> None:
    """Launch round after round until the best rate of every group is inside; then say which these are.

    Where `launch` returns before its points have ended, it says which command goes on. Raises FailureError where no
    best rate was found, or as `launch` does; runs that failed keep nothing from going on.
    """
    while (found := standing(points)).points:
        _say(f"lr={SEARCH}: a round of {counted(len(found.points), 'run')}")
        try:
            launch(found.points)
        except FailureError:
            if not all(map(_has_ended, found.points)):
                raise
        if not all(map(_has_ended, found.points)):
            _say("the search goes on with the same command, when these runs have ended:")
            _say(f"  {shlex.join(['python', '-m', 'experiments.run', *sys.argv[1:]])}")
            return
    _say(*lines_of(found))
    _require_inside(found)


def lines_of(found: Standing) -> list[str]:
    """What a search has found, as lines: the rates of each group with their scores, and how to report the best."""
    rows = [("group", "best lr", "runs each", f"{METRIC} by lr")]
    for group, tried in found.tried.items():
        best = f"{best_rate(tried):g}" if best_is_inside(tried, untrained(group, tried)) else "none inside"
        scores = ", ".join(f"{rate:g}: {score:.4f}" for rate, score in sorted(tried.items()))
        rows.append((group.label, best, str(len(group.points)), scores))
    return [
        *plain_table(rows),
        "These scores have chosen the rates. To report them, train on other draws, which have not: the same command "
        f"with lr={FOUND} and other seeds, such as seed=100,101,102,103.",
    ]


def _require_inside(found: Standing) -> None:
    tried = found.tried.items()
    missing = {group.label: own for group, own in tried if not best_is_inside(own, untrained(group, own))}
    if missing:
        shown = "; ".join(f"{label}: {min(own):g} to {max(own):g}" for label, own in missing.items())
        raise FailureError(
            f"lr={SEARCH} found no best rate for {counted(len(missing), 'group')}: {shown}",
            f"the best of at most {MOST_RATES} rates has a worse one on each side",
            "look at the scores: where all are alike nothing is learnt, or all is; give more steps or another task, "
            f"name rates beyond these, lr=<number>,<number>, or take the best of these, lr={FOUND}",
        )


def _has_ended(point: RunConfig) -> bool:
    status = status_of(RunFolder(point))
    return status is not None and status.final


def _say(*lines: str) -> None:
    if rank_of_process() == 0:
        for line in lines:
            print(line, flush=True)
