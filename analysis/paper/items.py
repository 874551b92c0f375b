"""Every table and figure of the paper, and the study of a small real model, as a declaration: which runs it shows,
what makes them, what the paper reports.

A run belongs to an item by its recorded settings alone. An item is drawn once for each part of its runs whose other
settings agree (`selection`), when there is something to compare (`least`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.numbers.selection import ADAPTER, METHOD, MODEL, NUMBER, Where
from analysis.paper import figures as paper_figures
from analysis.paper import ratios
from analysis.paper import real_model as study
from analysis.paper import tables as paper_tables
from analysis.paper.figures import Maker

TINYLORA: Where = {"adapter.name": ("tinylora",), "sharing": ("tiled",), "rank": ("2",), "precision": ("fp32",)}
SIX_SETS = ("math", "sums")  # the task whose runs score all six, and the one of the scale models
UNTIED_OR_TIED = ("1", "8", "64", "all")
VALUES = ("1", "4", "16", "64")
RANKS = ("1", "2", "4", "16", "64")


@dataclass(frozen=True)
class Item:
    """One table or figure of the paper."""

    name: str
    title: str
    shows: str
    """What a reader sees."""
    where: tuple[Where, ...]
    """The runs that belong to it: those that agree with any of these."""
    axes: tuple[str, ...]
    """Settings in which its runs may differ; all others are alike in one drawing."""
    least: tuple[tuple[str, ...], ...]
    """To be drawn, of each group at least one setting has two values."""
    paper: str
    """What the paper reports."""
    make: Maker
    command: str
    """What makes its runs."""

    def too_little(self, cells: pd.DataFrame) -> str:
        """Why these cells are not enough to draw; "" where they are."""
        if cells.empty:
            return "no test accuracy"
        lacking = [group for group in self.least if max(cells[name].nunique() for name in group if name in cells) < 2]
        return "; ".join(f"one value of {' and '.join(group)}" for group in lacking)


def _of(algorithm: str, *alternatives: Where) -> tuple[Where, ...]:
    return tuple({"algorithm.name": (algorithm,), **alternative} for alternative in alternatives)


def _preset(name: str) -> str:
    return f"python -m experiments.run -m +paper={name}"


ALL_ADAPTERS: tuple[Where, ...] = (
    TINYLORA | {"u": ("1",)},
    TINYLORA | {"u": ("64",), "n_tie": ("all",)},
    {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "precision": ("fp32",)},
    {"adapter.name": ("lora", "full"), "precision": ("fp32",)},
)
TWO_SIZES = ("trained_values",)

FIGURE_1 = Item(
    "figure1",
    "Figure 1: accuracy by trained parameters, GRPO",
    "How accuracy grows with the number of trained parameters, for TinyLoRA, LoRA-XS and LoRA, between the untrained "
    "model and full fine-tuning.",
    _of("grpo", *ALL_ADAPTERS),
    ADAPTER,
    (TWO_SIZES, ("adapter.name",)),
    "On GSM8K with Qwen2.5-7B-Instruct: untrained 75.6, 79.9 with 1 parameter, 90.7 with 13, 94.9 with 196, 97.0 with "
    "full fine-tuning.",
    paper_figures.accuracy_by_size,
    _preset("figure1"),
)
FIGURE_2 = Item(
    "figure2",
    "Figure 2: accuracy by trained parameters, SFT",
    "The same as Figure 1 for supervised fine-tuning.",
    _of("sft", *ALL_ADAPTERS),
    ADAPTER,
    (TWO_SIZES, ("adapter.name",)),
    "Small updates learn little: 82.4 with 1 parameter, 82.6 with 25, 83.8 with 196, 88.2 with 12,544; LoRA reaches "
    "98.1.",
    paper_figures.accuracy_by_size,
    _preset("figure2"),
)
FIGURE_3 = Item(
    "figure3",
    "Figure 3: the smallest update that is nearly the best",
    "For each model the smallest update that reaches 90, 95 and 97.5% of the best accuracy of any size tried.",
    _of(
        "grpo",
        TINYLORA | {"u": ("1",)},
        {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "precision": ("fp32",)},
        {"adapter.name": ("lora",), "precision": ("fp32",)},
    ),
    (*MODEL, *ADAPTER),
    (TWO_SIZES, ("adapter.name",)),
    "Larger models need smaller updates: for 90% 43,008 parameters (0.5B), 3,136 (1.5B), 126 (3B) and 13 (7B).",
    paper_figures.smallest_updates,
    _preset("figure3"),
)
FIGURE_4 = Item(
    "figure4",
    "Figure 4: precision and sharing",
    "TinyLoRA with one value per group, stored in three types, shared among neighbours in depth (tiled) or of one type "
    "(structured): by the number of trained values, and by the bytes that they take.",
    _of("grpo", {"adapter.name": ("tinylora",), "rank": ("2",), "u": ("1",), "n_tie": (NUMBER,)}),
    ("n_tie", "sharing", "precision"),
    (TWO_SIZES, ("precision", "sharing")),
    "Qwen2.5-3B-Instruct: tiled fp32 rises from 69.2 (8 parameters) to 85.1 (252), bf16 from 66.3 to 83.5; structured "
    "is lower at equal counts. The paper calls fp32 the best bit for bit.",
    paper_figures.precision_and_sharing,
    _preset("figure4"),
)
FIGURE_5 = Item(
    "figure5",
    "Figure 5: training by step",
    "Reward, response length and the difference between the probabilities of trainer and sampler while training.",
    _of("grpo", TINYLORA | {"n_tie": ("1",), "u": ("1", "2", "32", "512")}),
    ("u",),
    (TWO_SIZES,),
    "On MATH: larger updates reach higher rewards (7B: .673 with 196, .730 with 100,352), longer responses for the 7B "
    "model, and a mean probability difference near .003 for all.",
    paper_figures.dynamics,
    _preset("figure5"),
)
FIGURE_6 = Item(
    "figure6",
    "Figure 6: LoRA-XS and LoRA by backbone",
    "Accuracy by trained parameters for each model, GRPO.",
    _of(
        "grpo",
        {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "n_tie": ("1",), "precision": ("fp32",)},
        {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "n_tie": ("8",), "rank": ("8",), "precision": ("fp32",)},
        {"adapter.name": ("lora",), "precision": ("fp32",)},
    ),
    (*MODEL, *ADAPTER),
    (TWO_SIZES,),
    "With LoRA-XS of rank 1 the 0.5B model falls below its untrained score (32.3), the 7B model reaches 91.8.",
    paper_figures.by_backbone,
    _preset("figure6"),
)
FIGURE_7 = Item(
    "figure7",
    "Figure 7: the frozen rank",
    "Accuracy by the rank r of the frozen basis, for several numbers of values per group.",
    _of("grpo", TINYLORA | {"n_tie": ("1",), "rank": RANKS, "u": VALUES}),
    (*MODEL, "rank", "u"),
    (("rank",), ("u",)),
    "r=2 is best or near it; with one value per group larger ranks hurt (3B Qwen: 82.1 at r=2, 74.5 at r=64).",
    paper_figures.frozen_rank,
    _preset("figure7"),
)
GRID = _of("grpo", TINYLORA | {"n_tie": UNTIED_OR_TIED, "u": VALUES})
FIGURE_8 = Item(
    "figure8",
    "Figure 8: ties",
    "Accuracy by the number of maps that share one v, for several numbers of values per group.",
    GRID,
    (*MODEL, "n_tie", "u"),
    (("n_tie",), ("u",)),
    "Tying costs more than few values per group do: 3B Qwen untied u=1 has 78.9, all tied u=64 has 67.6.",
    paper_figures.ties,
    _preset("figure8"),
)
FIGURE_9 = Item(
    "figure9",
    "Figure 9: values per group",
    "The grid of Figure 8 by u, a line for each n_tie.",
    GRID,
    (*MODEL, "n_tie", "u"),
    (("n_tie",), ("u",)),
    "More values help at every tying. The points differ from Figure 8's for heavily tied settings.",
    paper_figures.values_per_group,
    _preset("figure9"),
)
TABLE_2 = Item(
    "table2",
    "Table 2: six benchmarks",
    "Scores of each size on six evaluation sets, their average, and the share of full fine-tuning's gain that is kept.",
    _of(
        "grpo",
        TINYLORA | {"task.name": SIX_SETS, "u": ("1",), "n_tie": ("16", "4", "1")},
        TINYLORA | {"task.name": SIX_SETS, "u": ("2", "32", "512"), "n_tie": ("1",)},
        {"task.name": SIX_SETS, "adapter.name": ("full",), "precision": ("fp32",)},
    ),
    ADAPTER,
    (TWO_SIZES, ("u", "adapter.name")),
    "Qwen2.5-7B-Instruct: 13 parameters keep 66% of the gain, 196 keep 87%, 392 keep 95%.",
    paper_tables.six_benchmarks,
    _preset("table2"),
)
FAMILIES = Item(
    "families",
    "Qwen and Llama",
    "The two families' accuracy by size, and how many times the parameters one needs for the same accuracy.",
    _of("grpo", TINYLORA),
    (*MODEL, "u", "n_tie"),
    (TWO_SIZES, ("model.name",)),
    "Qwen needs about 10 times fewer parameters than Llama (text); with 100 parameters Qwen 3B has 74, Llama 3B 60.",
    ratios.families,
    f"{_preset('figure8')} model=qwen2.5-3b-instruct,llama-3.2-3b-instruct",
)
RL_AND_SFT = Item(
    "rl-sft",
    "Reinforcement learning and supervised fine-tuning",
    "The best accuracy of any update of a size, by GRPO and by SFT, and how many times the parameters SFT needs for "
    "the same accuracy.",
    (*_of("grpo", *ALL_ADAPTERS), *_of("sft", *ALL_ADAPTERS)),
    (*METHOD, *ADAPTER),
    (TWO_SIZES, ("algorithm.name",)),
    "SFT needs 100 to 1000 times the parameters (text): at 13 parameters RL has 91, SFT 83.",
    ratios.algorithms,
    f"{_preset('figure1')} && {_preset('figure2')}",
)
STUDY = Item(
    "study",
    "A small real model: GRPO and SFT by size and precision",
    "How few trained values teach SmolLM2-135M-Instruct sums of two digits: accuracy by trained parameters, a line for "
    "each algorithm and stored type.",
    ({"model.name": ("smollm2-135m",), "task.name": ("reasoning_gym",), "adapter.name": ("tinylora",)},),
    (*METHOD, *ADAPTER, "precision"),
    (TWO_SIZES, ("algorithm.name", "precision", "sharing")),
    "No model this small. Of its own ones it says that 13 parameters are enough for GRPO, that SFT needs 100 to 1000 "
    "times more, and that fp32 is the best type bit for bit.",
    study.by_algorithm_and_precision,
    "python -m experiments.run -m +study=smollm2",
)
ITEMS = (
    FIGURE_1,
    FIGURE_2,
    FIGURE_3,
    FIGURE_4,
    FIGURE_5,
    FIGURE_6,
    FIGURE_7,
    FIGURE_8,
    FIGURE_9,
    TABLE_2,
    FAMILIES,
    RL_AND_SFT,
    STUDY,
)
