"""The claims checked: each with our measured effect, its interval over seeds, and a verdict.

A claim holds where its whole interval meets the criterion, does not hold where none of it does; anything between, and
fewer than three seeds, is not enough runs. The bootstrap's interval from few seeds is too narrow (from three it is
their range, and without any effect it would be above 0 in one case of eight), so for the verdict it is widened as
Student's t is.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.statistics.bootstrap import widened
from analysis.statistics.selection import Table, by_family, parts
from analysis.statistics.text import GAP
from analysis.paper.claims import CLAIMS, TIMES, Claim, Criterion
from analysis.paper.effects import Effect
from analysis.paper.ratios import range_text

FEWEST_SEEDS = 3
HOLDS, FAILS, OPEN = "holds", "does not hold", "not enough runs"


Checked = list[tuple[Claim, list[Effect]]]


def check(table: Table) -> Checked:
    """Each claim with its effect on each part that it can be measured on."""
    return [
        (claim, [effect for part in parts(table, "claim", claim.selection) for effect in claim.measure(part)])
        for claim in CLAIMS
    ]


def verdict(criterion: Criterion, effect: Effect) -> str:
    """Whether a claim holds, by its effect's interval alone, widened for few seeds."""
    if effect.seeds < FEWEST_SEEDS or math.isnan(effect.low) or math.isnan(effect.high):
        return OPEN
    value, low, high = effect.value, effect.low, effect.high
    if criterion.unit == TIMES:
        with np.errstate(divide="ignore"):
            value, low, high = np.log([value, low, high])
        low, high = np.exp(widened(value, low, high, effect.seeds))
    else:
        low, high = widened(value, low, high, effect.seeds)
    if criterion.upper:
        return HOLDS if high <= criterion.bound else FAILS if low > criterion.bound else OPEN
    return HOLDS if low >= criterion.bound else FAILS if high < criterion.bound else OPEN


def claims_table(checked: Checked) -> pd.DataFrame:
    """One row for each claim and part that it was measured on; one without numbers where there is none."""
    return pd.DataFrame(
        [row for claim, found in checked for row in [_row(claim, effect) for effect in found] or [_row(claim, None)]]
    )


def claims_by_model(checked: Checked) -> pd.DataFrame:
    """One row for each claim with a column for each model: effect, interval and verdict in a few words.

    An effect between models stands in the column of the last of them.
    """
    models = by_family({model for _, found in checked for effect in found for model in effect.models})
    rows = []
    for claim, found in checked:
        row = {"claim": claim.text, "the paper": claim.paper}
        for model in models:
            texts = [_words(claim, effect) for effect in found if effect.models[-1:] == (model,)]
            row[model] = "; ".join(texts) or GAP
        rows.append(row)
    return pd.DataFrame(rows)


def _words(claim: Claim, effect: Effect) -> str:
    row = _row(claim, effect)
    band = "" if row["95% interval"] == GAP else f" ({row['95% interval']})"
    return f"{row['effect']}{band}: {row['verdict']}"


def _row(claim: Claim, effect: Effect | None) -> dict[str, str]:
    row = {"claim": claim.text, "paper": claim.paper, "criterion": claim.criterion.words}
    if effect is None:
        return row | {"measured on": GAP, "effect": GAP, "95% interval": GAP, "runs": "0", "verdict": OPEN}
    gap = math.isnan(effect.low) or math.isnan(effect.high)
    ends = GAP if gap else f"{_number(effect.low)} to {_number(effect.high)}"
    ends = range_text(effect.low, effect.high) if claim.criterion.unit == TIMES else ends
    size = _number(effect.value) + ("" if math.isinf(effect.value) else claim.criterion.unit)
    return row | {
        "measured on": effect.of,
        "effect": size,
        "95% interval": ends,
        "runs": f"{effect.runs}",
        "verdict": verdict(claim.criterion, effect),
    }


def _number(value: float) -> str:
    if math.isinf(value):
        return "more than tried"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
