"""The claims of the paper, each with our measured effect, its interval over seeds, and a verdict.

A claim holds where its whole interval meets the criterion, does not hold where none of it does; anything between, and
fewer than three seeds, is not enough runs. The bootstrap's interval from few seeds is too narrow (from three it is
their range, and without any effect it would be above 0 in one case of eight), so for the verdict it is widened as
Student's t is. The criterion of each claim is stated beside it: the paper gives few.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.numbers import compare
from analysis.numbers.selection import ADAPTER, METHOD, Part, Table, Where, by_family, parts
from analysis.page.tables import GAP
from analysis.paper import effects
from analysis.paper.effects import Effect
from analysis.paper.items import FAMILIES, FIGURE_4, FIGURE_5, FIGURE_7, FIGURE_8, RL_AND_SFT, TINYLORA
from analysis.paper.ratios import range_text

TIMES = " times"
FEWEST_SEEDS = 3
HOLDS, FAILS, OPEN = "holds", "does not hold", "not enough runs"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and how it is checked."""

    text: str
    paper: str
    """What the paper's numbers say, and where."""
    criterion: str
    threshold: float
    at_least: bool
    unit: str
    where: tuple[Where, ...]
    axes: tuple[str, ...]
    measure: Callable[[Part], list[Effect]]

    def verdict(self, effect: Effect) -> str:
        """Whether it holds, by the interval alone, widened for few seeds; factors are compared as logarithms."""
        if effect.seeds < FEWEST_SEEDS or math.isnan(effect.low) or math.isnan(effect.high):
            return OPEN
        value, low, high = effect.value, effect.low, effect.high
        if self.unit == TIMES:
            with np.errstate(divide="ignore"):
                value, low, high = np.log([value, low, high])
            low, high = np.exp(compare.widened(value, low, high, effect.seeds))
        else:
            low, high = compare.widened(value, low, high, effect.seeds)
        good, bad = (low, high) if self.at_least else (-high, -low)
        bound = self.threshold if self.at_least else -self.threshold
        return HOLDS if good >= bound else FAILS if bad < bound else OPEN


Checked = list[tuple[Claim, list[Effect]]]


def check(table: Table) -> Checked:
    """Each claim with its effect on each part that it can be measured on."""
    return [
        (claim, [effect for part in parts(table, "claim", claim.where, claim.axes) for effect in claim.measure(part)])
        for claim in CLAIMS
    ]


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
    row = {"claim": claim.text, "paper": claim.paper, "criterion": claim.criterion}
    if effect is None:
        return row | {"measured on": GAP, "effect": GAP, "95% interval": GAP, "runs": "0", "verdict": OPEN}
    gap = math.isnan(effect.low) or math.isnan(effect.high)
    ends = GAP if gap else f"{_number(effect.low)} to {_number(effect.high)}"
    ends = range_text(effect.low, effect.high) if claim.unit == TIMES else ends
    size = _number(effect.value) + ("" if math.isinf(effect.value) else claim.unit)
    return row | {
        "measured on": effect.of,
        "effect": size,
        "95% interval": ends,
        "runs": f"{effect.runs}",
        "verdict": claim.verdict(effect),
    }


def _number(value: float) -> str:
    if math.isinf(value):
        return "more than tried"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


GRPO_TINYLORA: Where = TINYLORA | {"algorithm.name": ("grpo",)}
GRPO_FULL: Where = {"algorithm.name": ("grpo",), "adapter.name": ("full",), "precision": ("fp32",)}

CLAIMS = (
    Claim(
        "13 parameters keep most of full fine-tuning's gain",
        "66% (Table 2), 71% (Figure 1), 7B",
        "at least 50%",
        50,
        True,
        "%",
        (GRPO_TINYLORA, GRPO_FULL),
        ADAPTER,
        effects.gain_at(10, 16, 13),
    ),
    Claim(
        "196 parameters keep 87% of full fine-tuning's gain",
        "87% (Table 2), 90% (Figure 1), 7B",
        "at least 80%",
        80,
        True,
        "%",
        (GRPO_TINYLORA, GRPO_FULL),
        ADAPTER,
        effects.gain_at(150, 260, 196),
    ),
    Claim(
        "13 parameters come within 5 points of full fine-tuning",
        "90.7 v 97.0: 6.3 points (Figure 1)",
        "at most 5 points",
        5,
        False,
        " points",
        (GRPO_TINYLORA, GRPO_FULL),
        ADAPTER,
        effects.behind_full,
    ),
    Claim(
        "One parameter gains about 5 points",
        "+4.3 (Figure 1), +5 (text)",
        "at least 4 points",
        4,
        True,
        " points",
        (GRPO_TINYLORA,),
        ADAPTER,
        effects.one_parameter,
    ),
    Claim(
        "SFT needs 100 to 1000 times the parameters of RL",
        "91 v 83 at 13 parameters (text)",
        "at least 100 times, at half the gain",
        100,
        True,
        TIMES,
        RL_AND_SFT.where,
        (*METHOD, *ADAPTER),
        effects.sft_ratio,
    ),
    Claim(
        "fp32 beats bf16 at equal parameters",
        "+2.4 tiled (Figure 4)",
        "more than 0 points",
        0,
        True,
        " points",
        FIGURE_4.where,
        FIGURE_4.axes,
        effects.pairs("precision", "fp32", "bf16", "sharing", "n_tie"),
    ),
    Claim(
        "fp32 beats fp16 at equal parameters",
        "+0.7 tiled (Figure 4)",
        "more than 0 points",
        0,
        True,
        " points",
        FIGURE_4.where,
        FIGURE_4.axes,
        effects.pairs("precision", "fp32", "fp16", "sharing", "n_tie"),
    ),
    Claim(
        "fp32 is best bit for bit",
        "bf16 leads at 32 and 64 bytes (Figure 4, by true bytes)",
        "more than 0 points",
        0,
        True,
        " points",
        FIGURE_4.where,
        FIGURE_4.axes,
        effects.pairs("precision", "fp32", "bf16", "sharing", "trained_bytes"),
    ),
    Claim(
        "Tiled sharing beats structured at equal parameters",
        "+1 to +3 points (Figure 4)",
        "more than 0 points",
        0,
        True,
        " points",
        FIGURE_4.where,
        FIGURE_4.axes,
        effects.tiled_v_structured,
    ),
    Claim(
        "Qwen needs 10 times fewer parameters than Llama",
        "about 10 times (text)",
        "at least 10 times, at half the gain",
        10,
        True,
        TIMES,
        FAMILIES.where,
        FAMILIES.axes,
        effects.family_ratio,
    ),
    Claim(
        "Larger updates give longer responses",
        "708 to 795 tokens (7B), but 697 to 688 (3B; Figure 5)",
        "more than 0 tokens",
        0,
        True,
        " tokens",
        FIGURE_5.where,
        FIGURE_5.axes,
        effects.longer,
    ),
    Claim(
        "A larger frozen rank hurts",
        "82.1 at r=2, 74.5 at r=64 (Figure 7, 3B, u=1)",
        "more than 0 points",
        0,
        True,
        " points",
        FIGURE_7.where,
        FIGURE_7.axes,
        effects.pairs("rank", "2", "64", "u"),
    ),
    Claim(
        "Untying helps more than values per group",
        "78.9 (untied, u=1) v 67.6 (all tied, u=64; Figure 8, 3B)",
        "more than 0 points",
        0,
        True,
        " points",
        FIGURE_8.where,
        FIGURE_8.axes,
        effects.untied_v_values,
    ),
    Claim(
        "Sampler and trainer hardly differ",
        "mean probability difference near .003 (Figure 5)",
        "at most .005",
        0.005,
        False,
        "",
        FIGURE_5.where,
        FIGURE_5.axes,
        effects.mismatch,
    ),
    Claim(
        "Merged weights and adapter form agree",
        "called negligible (text)",
        "KL of at most .001 nats a token",
        0.001,
        False,
        " nats",
        (GRPO_TINYLORA,),
        ADAPTER,
        effects.merge_kl,
    ),
)
