"""`lr=found`: other draws at the rates that `lr=search` found for the same settings in the same folder.

    python -m experiments.run -m u=1,13 lr=search seed=0,1
    python -m experiments.run -m u=1,13 lr=found seed=2,3,4,5,6,7,8,9

A draw that chose a rate says too much good of it. So the rates are chosen on some draws and reported on others, and the
report (`analysis`) leaves out those that chose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from experiments.compose.words import FOUND, SEARCH
from experiments.display import counted
from experiments.search import Runs, accuracy, best_rate, draw_of, groups_of, next_rates, recorded, untrained_score
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError

FEWEST_RATES = 3  # of a draw that took part in a search


def at_found_rates(points: Sequence[RunConfig]) -> list[RunConfig]:
    """The points, each at the rate that was found for its group. UsageError where no search has found one."""
    groups = groups_of(points)
    found = {group: _found(runs) for group, runs in recorded(groups).items()}
    rates = {group: rate for group, rate in found.items() if rate is not None}
    if missing := [group.label for group in groups if group not in rates]:
        raise UsageError(
            f"lr={FOUND} for {counted(len(missing), 'group')}: {'; '.join(missing)}",
            "there is a rate where a search on other draws, in the same outputs_dir, has come to its end",
            f"give the same command with lr={SEARCH} and two seeds first, such as seed=0,1",
        )
    chosen = {point.run_key: rate for group, rate in rates.items() for point in group.points}
    return [replace(point, lr=chosen[replace(point, lr=1.0).run_key]) if point.trains else point for point in points]


def _found(runs: Runs) -> float | None:
    """The best rate of the draws that have tried all rates of a search; None where a search has not come to its end.

    It may be at an edge, where the search gave up: the report flags it.
    """
    drawn = {rate: {draw_of(run): run for run in own} for rate, own in runs.items()}
    counts = Counter(draw for draws in drawn.values() for draw in draws)
    searching = {draw for draw, count in counts.items() if count >= FEWEST_RATES}
    rates = [rate for rate, draws in drawn.items() if searching & draws.keys()]
    whole = sorted(draw for draw in searching if counts[draw] == len(rates))
    if not whole:
        return None
    scores: dict[float, float | None] = {rate: accuracy([drawn[rate][draw] for draw in whole]) for rate in rates}
    floor = untrained_score([drawn[rate][draw] for rate in rates for draw in whole])
    return best_rate(scores) if not next_rates(scores, floor) else None
