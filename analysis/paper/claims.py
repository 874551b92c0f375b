"""The claims of the paper, as declarations: what it says, what we ask of our runs, and which runs are asked.

The paper gives few criteria: where it gives none they are ours, and stand beside the claim in the report. `effects`
measures, `verdicts` judges.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.paper import effects
from analysis.paper.items import FAMILIES, FIGURE_4, FIGURE_5, FIGURE_7, FIGURE_8, RIGHT, RL_AND_SFT, TINYLORA
from analysis.statistics.selection import ADAPTER, Selection, Where

TIMES = " times"


@dataclass(frozen=True)
class Criterion:
    """What an effect must be for its claim to hold."""

    words: str
    bound: float
    unit: str
    """Follows the number in the report; effects in `TIMES` are compared as logarithms."""
    upper: bool = False
    """Whether the effect may at most be the bound; otherwise it must at least be."""
    margin: float | None = None
    """An effect within so much of the bound to either side is none; None where no margin is stated."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and how it is checked."""

    text: str
    paper: str
    """What the paper's numbers say, and where."""
    selection: Selection
    measure: effects.Measure
    criterion: Criterion = Criterion("more than 0 points; within 2 points is equivalent", 0, " points", margin=2)
    accuracy: bool = True
    """Whether it is about accuracy: then greedy decoding is measured beside sampling."""


GRPO_TINYLORA: Where = TINYLORA | RIGHT | {"algorithm.name": ("grpo",)}
GRPO_FULL: Where = RIGHT | {"algorithm.name": ("grpo",), "adapter.name": ("full",), "precision": ("fp32",)}
TINYLORA_ALONE = Selection((GRPO_TINYLORA,), ADAPTER)
TINYLORA_AND_FULL = Selection((GRPO_TINYLORA, GRPO_FULL), ADAPTER)

CLAIMS = (
    Claim(
        "13 parameters keep most of full fine-tuning's gain",
        paper="66% (Table 2), 71% (Figure 1), 7B",
        criterion=Criterion("at least 50%", 50, "%"),
        selection=TINYLORA_AND_FULL,
        measure=effects.gain_at(13, between=(10, 16), u=1),
    ),
    Claim(
        "196 parameters keep 87% of full fine-tuning's gain",
        paper="87% (Table 2), 90% (Figure 1), 7B",
        criterion=Criterion("at least 80%", 80, "%"),
        selection=TINYLORA_AND_FULL,
        measure=effects.gain_at(196, between=(150, 260)),
    ),
    Claim(
        "13 parameters come within 5 points of full fine-tuning",
        paper="90.7 v 97.0: 6.3 points (Figure 1)",
        criterion=Criterion("at most 5 points", 5, " points", upper=True),
        selection=TINYLORA_AND_FULL,
        measure=effects.behind_full,
    ),
    Claim(
        "One parameter gains about 5 points",
        paper="+4.3 (Figure 1), +5 (text)",
        criterion=Criterion("at least 4 points", 4, " points"),
        selection=TINYLORA_ALONE,
        measure=effects.one_parameter,
    ),
    Claim(
        "RL beats SFT at equal parameters",
        paper="91 v 83 at 13 parameters (text)",
        selection=RL_AND_SFT.selection,
        measure=effects.rl_less_sft,
    ),
    Claim(
        "SFT needs 100 to 1000 times the parameters of RL",
        paper="100 to 1000 times (text)",
        criterion=Criterion("at least 100 times, at half the gain", 100, TIMES),
        selection=RL_AND_SFT.selection,
        measure=effects.sft_ratio,
    ),
    Claim(
        "fp32 beats bf16 at equal parameters",
        paper="+2.4 tiled (Figure 4)",
        selection=FIGURE_4.selection,
        measure=effects.pairs("precision", "fp32", "bf16", alike_in=("sharing", "n_tie")),
    ),
    Claim(
        "fp32 beats fp16 at equal parameters",
        paper="+0.7 tiled (Figure 4)",
        selection=FIGURE_4.selection,
        measure=effects.pairs("precision", "fp32", "fp16", alike_in=("sharing", "n_tie")),
    ),
    Claim(
        "fp32 is best bit for bit",
        paper="bf16 leads at 32 and 64 bytes (Figure 4, by true bytes)",
        selection=FIGURE_4.selection,
        measure=effects.pairs("precision", "fp32", "bf16", alike_in=("sharing", "trained_bytes")),
    ),
    Claim(
        "Tiled sharing beats structured at equal parameters",
        paper="+1 to +3 points (Figure 4)",
        selection=FIGURE_4.selection,
        measure=effects.tiled_v_structured,
    ),
    Claim(
        "Qwen needs 10 times fewer parameters than Llama",
        paper="about 10 times (text)",
        criterion=Criterion("at least 10 times, at half the gain", 10, TIMES),
        selection=FAMILIES.selection,
        measure=effects.family_ratio,
    ),
    Claim(
        "Larger updates give longer responses",
        paper="708 to 795 tokens (7B), but 697 to 688 (3B; Figure 5)",
        criterion=Criterion("more than 0 tokens", 0, " tokens"),
        selection=FIGURE_5.selection,
        measure=effects.longer,
        accuracy=False,
    ),
    Claim(
        "A larger frozen rank hurts",
        paper="82.1 at r=2, 74.5 at r=64 (Figure 7, 3B, u=1)",
        selection=FIGURE_7.selection,
        measure=effects.pairs("rank", "2", "64", alike_in=("u",)),
    ),
    Claim(
        "Untying helps more than values per group",
        paper="78.9 (252 values, untied) v 67.6 (64, all tied; Figure 8, 3B)",
        selection=FIGURE_8.selection,
        measure=effects.untied_v_fewer,
    ),
    Claim(
        "Untying helps more than as many values per group",
        paper="not compared",
        selection=FIGURE_8.selection,
        measure=effects.untied_v_equal,
    ),
    Claim(
        "Sampler and trainer hardly differ",
        paper="mean probability difference near .003 (Figure 5)",
        criterion=Criterion("at most .005", 0.005, "", upper=True),
        selection=FIGURE_5.selection,
        measure=effects.mismatch,
        accuracy=False,
    ),
    Claim(
        "Merged weights and adapter form agree",
        paper="called negligible (text)",
        criterion=Criterion("KL of at most .001 nats a token", 0.001, " nats", upper=True),
        selection=TINYLORA_ALONE,
        measure=effects.merge_kl,
        accuracy=False,
    ),
)
