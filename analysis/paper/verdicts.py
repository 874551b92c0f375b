"""The claims checked: each with our effect, its 95% interval, and the verdict that this interval gives.

- holds: the whole interval meets the criterion. reversed: none of it does.
- equivalent: the bound is inside, and the whole interval lies within the margin that the claim states.
- inconclusive: anything else, too few draws (`effect.FEWEST_DRAWS`), or records without outcomes by problem.
- not comparable: the two sides cannot be compared, whatever the number of draws.

The interval that is printed decides; it is not adjusted. For all verdicts of a report together, Holm's adjusted p
stands beside it, and the number of decided verdicts that chance alone would give.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.paper.claims import CLAIMS, TIMES, Claim, Criterion
from analysis.paper.effect import Effect
from analysis.paper.ratios import range_text
from analysis.statistics.measured import GREEDY
from analysis.statistics.selection import Table, by_family, parts
from analysis.statistics.text import GAP

HOLDS, REVERSED, EQUIVALENT = "holds", "reversed", "equivalent"
DECIDED = (HOLDS, REVERSED, EQUIVALENT)
INCONCLUSIVE, NOT_COMPARABLE = "inconclusive", "not comparable"
LEVEL = 0.05
MOST_DRAWS = 1000  # beyond which no number is given


@dataclass(frozen=True)
class Verdict:
    """An effect judged."""

    effect: Effect
    word: str
    why: str
    """What is lacking, where it is not decided."""
    p: float
    """Two-sided, of the criterion's bound; of an equivalence the larger of its margins' two. NaN where not judged."""
    adjusted: float = math.nan
    """The same after Holm, over all that is judged."""
    greedy: Effect | None = None
    """The same effect with greedy decoding."""

    @property
    def text(self) -> str:
        """The verdict in words."""
        return f"{self.word} ({self.why})" if self.why else self.word


Checked = list[tuple[Claim, list[Verdict]]]


def check(table: Table) -> Checked:
    """Each claim with its verdict on each part that it can be measured on."""
    found = [(claim, _verdicts(claim, table)) for claim in CLAIMS]
    adjusted = iter(holm([each.p for _, verdicts in found for each in verdicts]))
    return [(claim, [replace(each, adjusted=next(adjusted)) for each in verdicts]) for claim, verdicts in found]


def _verdicts(claim: Claim, table: Table) -> list[Verdict]:
    verdicts = []
    for part in parts(table, "claim", claim.selection):
        effects = claim.measure(part)
        greedy: Sequence[Effect | None] = claim.measure(replace(part, score=GREEDY)) if claim.accuracy else []
        beside = greedy if len(greedy) == len(effects) else [None] * len(effects)
        verdicts += [
            replace(judge(claim.criterion, effect), greedy=other) for effect, other in zip(effects, beside, strict=True)
        ]
    return verdicts


def judge(criterion: Criterion, effect: Effect) -> Verdict:
    """The verdict on an effect, by its interval alone."""
    if effect.incomparable:
        return Verdict(effect, NOT_COMPARABLE, effect.incomparable, math.nan)
    if effect.undecided or math.isnan(effect.low) or math.isnan(effect.high):
        return Verdict(effect, INCONCLUSIVE, effect.undecided or "no interval", math.nan)
    if effect.draws < effect.needed:
        few = f"{effect.draws} draw{'s' if effect.draws != 1 else ''}; {effect.needed} are needed"
        return Verdict(effect, INCONCLUSIVE, few, math.nan)
    p, bound, margin = effect.p(criterion.bound), criterion.bound, criterion.margin
    above, below = effect.low > bound, effect.high < bound
    if above or below:
        return Verdict(effect, HOLDS if below == criterion.upper else REVERSED, "", p)
    if margin is not None and bound - margin < effect.low and effect.high < bound + margin:
        return Verdict(effect, EQUIVALENT, "", max(effect.p(bound - margin), effect.p(bound + margin)))
    enough = draws_that_do(criterion, effect)
    would = f"about {enough:,} would do" if enough <= MOST_DRAWS else f"more than {MOST_DRAWS:,} would be needed"
    return Verdict(effect, INCONCLUSIVE, f"{effect.draws} draws; {would}", p)


def draws_that_do(criterion: Criterion, effect: Effect) -> int:
    """How many draws would decide an effect of this size: an interval gets narrower with the root of their number."""
    numbers = np.array([effect.value, effect.low, effect.high, criterion.bound])
    if criterion.unit == TIMES:
        with np.errstate(divide="ignore"):
            numbers = np.log(numbers)
    value, low, high, bound = map(float, numbers)
    away = abs(value - bound)
    needed = [(value - low if value > bound else high - value, away)]
    if criterion.margin is not None:
        needed.append((max(value - low, high - value), criterion.margin - away))
    most = MOST_DRAWS + 1
    counts = [effect.draws * (half / room) ** 2 if room > 0 and math.isfinite(half) else most for half, room in needed]
    return max(effect.draws + 1, math.ceil(min(*counts, most)))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values; NaN stays, and does not count."""
    p = np.asarray(values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def by_chance(checked: Checked) -> tuple[int, float]:
    """How many effects were judged, and how many of these chance alone would decide, were each at its bound."""
    judged = sum(not math.isnan(each.p) for _, verdicts in checked for each in verdicts)
    return judged, LEVEL * judged


def claims_table(checked: Checked) -> pd.DataFrame:
    """One row for each claim and part that it was measured on; one without numbers where there is none."""
    return pd.DataFrame(
        [row for claim, found in checked for row in [_row(claim, each) for each in found] or [_row(claim, None)]]
    )


def claims_data(checked: Checked) -> pd.DataFrame:
    """The same as numbers: what a program needs to check each verdict."""
    rows = []
    for claim, found in checked:
        criterion = {"unit": claim.criterion.unit.strip(), "bound": claim.criterion.bound}
        criterion |= {"upper": claim.criterion.upper, "margin": claim.criterion.margin}
        for each in found:
            effect, greedy = each.effect, each.greedy
            numbers = {"effect": effect.value, "low": effect.low, "high": effect.high, "p": each.p}
            counts = {"p_holm": each.adjusted, "n": effect.draws, "needed": effect.needed, "runs": effect.runs}
            words = {"verdict": each.word, "why": each.why, "notes": "; ".join(effect.notes)}
            beside = (greedy.value, greedy.low, greedy.high) if greedy else (math.nan,) * 3
            others = dict(zip(("greedy", "greedy_low", "greedy_high"), beside, strict=True))
            where = {"claim": claim.text, "models": " ".join(effect.models), "measured_on": effect.of}
            rows.append({**where, **numbers, **counts, **criterion, **words, **others})
    return pd.DataFrame(rows)


def claims_by_model(checked: Checked) -> pd.DataFrame:
    """One row for each claim with a column for each model: effect, interval and verdict in a few words.

    An effect between models stands in the column of the last of them. Several of one model are told apart.
    """
    models = by_family({model for _, found in checked for each in found for model in each.effect.models})
    rows = []
    for claim, found in checked:
        row = {"claim": claim.text, "the paper": claim.paper}
        for model in models:
            own = [each for each in found if each.effect.models[-1:] == (model,)]
            texts = [
                f"{name}: {_words(claim, each)}".removeprefix(": ") for name, each in zip(apart(own), own, strict=True)
            ]
            short = [_words(claim, each) for each in own]
            row[model] = short[0] if len(set(short)) == 1 else "; ".join(texts) or GAP
        rows.append(row)
    return pd.DataFrame(rows)


def apart(verdicts: Sequence[Verdict]) -> list[str]:
    """Of each effect what tells it from the others, of what it was measured on; "" where it is the only one."""
    pieces = [re.split(r"(?: \(scale model\))?[,:] ", each.effect.of) for each in verdicts]
    shared = set.intersection(*map(set, pieces)) if pieces else set()
    return [" ".join(piece for piece in own if piece not in shared) for own in pieces]


def _words(claim: Claim, verdict: Verdict) -> str:
    row = _row(claim, verdict)
    band = "" if row["95% interval"] == GAP else f" ({row['95% interval']})"
    effect = "" if row["effect"] == GAP else f"{row['effect']}{band}: "
    return f"{effect}{row['verdict']}" + (f" [{row['note']}]" if row["note"] else "")


def _row(claim: Claim, verdict: Verdict | None) -> dict[str, str]:
    names = ("measured on", "effect", "95% interval", "p", "Holm's p", "draws", "runs", "greedy", "verdict", "note")
    row = {"claim": claim.text, "paper": claim.paper, "criterion": claim.criterion.words, **dict.fromkeys(names, GAP)}
    if verdict is None:
        return row | {"runs": "0", "verdict": f"{INCONCLUSIVE} (no runs)", "note": ""}
    effect, greedy = verdict.effect, verdict.greedy
    return row | {
        "measured on": effect.of,
        "effect": _size(claim, effect),
        "95% interval": _ends(claim, effect),
        "p": _p(verdict.p),
        "Holm's p": _p(verdict.adjusted),
        "draws": f"{effect.draws}",
        "runs": f"{effect.runs}",
        "greedy": GAP if greedy is None else f"{_size(claim, greedy)} ({_ends(claim, greedy)})",
        "verdict": verdict.text,
        "note": "; ".join(effect.notes),
    }


def _size(claim: Claim, effect: Effect) -> str:
    if math.isnan(effect.value):
        return GAP
    return _number(effect.value) + ("" if math.isinf(effect.value) else claim.criterion.unit)


def _ends(claim: Claim, effect: Effect) -> str:
    if math.isnan(effect.low) or math.isnan(effect.high):
        return GAP
    if claim.criterion.unit == TIMES:
        return range_text(effect.low, effect.high)
    return f"{_number(effect.low)} to {_number(effect.high)}"


def _p(value: float) -> str:
    return GAP if math.isnan(value) else "< .001" if value < 0.001 else f"{value:.3f}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "any" if value < 0 else "more than tried"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
