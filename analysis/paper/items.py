"""Every table and figure of the paper, and the study of a small real model, as a declaration: which runs it shows,
what makes them, what the paper reports.

A run belongs to an item by its recorded settings alone. An item is drawn once for each part of its runs whose other
settings agree (`numbers.selection`), when there is something to compare (`least`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.numbers.selection import ADAPTER, METHOD, MODEL, NUMBER, Selection, Where
from analysis.paper import by_setting, by_size, ratios, six_benchmarks, smallest_update, training_curves
from analysis.paper.points import Maker

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
    selection: Selection
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
    title="Figure 1: accuracy by trained parameters, GRPO",
    shows="How accuracy grows with the number of trained parameters, for TinyLoRA, LoRA-XS and LoRA, between the "
    "untrained model and full fine-tuning.",
    selection=Selection(_of("grpo", *ALL_ADAPTERS), ADAPTER),
    least=(TWO_SIZES, ("adapter.name",)),
    paper="On GSM8K with Qwen2.5-7B-Instruct: untrained 75.6, 79.9 with 1 parameter, 90.7 with 13, 94.9 with 196, "
    "97.0 with full fine-tuning.",
    make=by_size.accuracy_by_size,
    command=_preset("figure1"),
)
FIGURE_2 = Item(
    "figure2",
    title="Figure 2: accuracy by trained parameters, SFT",
    shows="The same as Figure 1 for supervised fine-tuning.",
    selection=Selection(_of("sft", *ALL_ADAPTERS), ADAPTER),
    least=(TWO_SIZES, ("adapter.name",)),
    paper="Small updates learn little: 82.4 with 1 parameter, 82.6 with 25, 83.8 with 196, 88.2 with 12,544; LoRA "
    "reaches 98.1.",
    make=by_size.accuracy_by_size,
    command=_preset("figure2"),
)
FIGURE_3 = Item(
    "figure3",
    title="Figure 3: the smallest update that is nearly the best",
    shows="For each model the smallest update that reaches 90, 95 and 97.5% of the best accuracy of any size tried.",
    selection=Selection(
        _of(
            "grpo",
            TINYLORA | {"u": ("1",)},
            {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "precision": ("fp32",)},
            {"adapter.name": ("lora",), "precision": ("fp32",)},
        ),
        (*MODEL, *ADAPTER),
    ),
    least=(TWO_SIZES, ("adapter.name",)),
    paper="Larger models need smaller updates: for 90% 43,008 parameters (0.5B), 3,136 (1.5B), 126 (3B) and 13 (7B).",
    make=smallest_update.smallest_updates,
    command=_preset("figure3"),
)
FIGURE_4 = Item(
    "figure4",
    title="Figure 4: precision and sharing",
    shows="TinyLoRA with one value per group, stored in three types, shared among neighbours in depth (tiled) or of "
    "one type (structured): by the number of trained values, and by the bytes that they take.",
    selection=Selection(
        _of("grpo", {"adapter.name": ("tinylora",), "rank": ("2",), "u": ("1",), "n_tie": (NUMBER,)}),
        ("n_tie", "sharing", "precision"),
    ),
    least=(TWO_SIZES, ("precision", "sharing")),
    paper="Qwen2.5-3B-Instruct: tiled fp32 rises from 69.2 (8 parameters) to 85.1 (252), bf16 from 66.3 to 83.5; "
    "structured is lower at equal counts. The paper calls fp32 the best bit for bit.",
    make=by_size.precision_and_sharing,
    command=_preset("figure4"),
)
FIGURE_5 = Item(
    "figure5",
    title="Figure 5: training by step",
    shows="Reward, response length and the difference between the probabilities of trainer and sampler while training.",
    selection=Selection(_of("grpo", TINYLORA | {"n_tie": ("1",), "u": ("1", "2", "32", "512")}), ("u",)),
    least=(TWO_SIZES,),
    paper="On MATH: larger updates reach higher rewards (7B: .673 with 196, .730 with 100,352), longer responses for "
    "the 7B model, and a mean probability difference near .003 for all.",
    make=training_curves.dynamics,
    command=_preset("figure5"),
)
FIGURE_6 = Item(
    "figure6",
    title="Figure 6: LoRA-XS and LoRA by backbone",
    shows="Accuracy by trained parameters for each model, GRPO.",
    selection=Selection(
        _of(
            "grpo",
            {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "n_tie": ("1",), "precision": ("fp32",)},
            {
                "adapter.name": ("lora_xs",),
                "sharing": ("tiled",),
                "n_tie": ("8",),
                "rank": ("8",),
                "precision": ("fp32",),
            },
            {"adapter.name": ("lora",), "precision": ("fp32",)},
        ),
        (*MODEL, *ADAPTER),
    ),
    least=(TWO_SIZES,),
    paper="With LoRA-XS of rank 1 the 0.5B model falls below its untrained score (32.3), the 7B model reaches 91.8.",
    make=by_size.by_backbone,
    command=_preset("figure6"),
)
FIGURE_7 = Item(
    "figure7",
    title="Figure 7: the frozen rank",
    shows="Accuracy by the rank r of the frozen basis, for several numbers of values per group.",
    selection=Selection(_of("grpo", TINYLORA | {"n_tie": ("1",), "rank": RANKS, "u": VALUES}), (*MODEL, "rank", "u")),
    least=(("rank",), ("u",)),
    paper="r=2 is best or near it; with one value per group larger ranks hurt (3B Qwen: 82.1 at r=2, 74.5 at r=64).",
    make=by_setting.frozen_rank,
    command=_preset("figure7"),
)
GRID = _of("grpo", TINYLORA | {"n_tie": UNTIED_OR_TIED, "u": VALUES})
FIGURE_8 = Item(
    "figure8",
    title="Figure 8: ties",
    shows="Accuracy by the number of maps that share one v, for several numbers of values per group.",
    selection=Selection(GRID, (*MODEL, "n_tie", "u")),
    least=(("n_tie",), ("u",)),
    paper="Tying costs more than few values per group do: 3B Qwen untied u=1 has 78.9, all tied u=64 has 67.6.",
    make=by_setting.ties,
    command=_preset("figure8"),
)
FIGURE_9 = Item(
    "figure9",
    title="Figure 9: values per group",
    shows="The grid of Figure 8 by u, a line for each n_tie.",
    selection=Selection(GRID, (*MODEL, "n_tie", "u")),
    least=(("n_tie",), ("u",)),
    paper="More values help at every tying. The points differ from Figure 8's for heavily tied settings.",
    make=by_setting.values_per_group,
    command=_preset("figure9"),
)
TABLE_2 = Item(
    "table2",
    title="Table 2: six benchmarks",
    shows="Scores of each size on six evaluation sets, their average, and the share of full fine-tuning's gain that "
    "is kept.",
    selection=Selection(
        _of(
            "grpo",
            TINYLORA | {"task.name": SIX_SETS, "u": ("1",), "n_tie": ("16", "4", "1")},
            TINYLORA | {"task.name": SIX_SETS, "u": ("2", "32", "512"), "n_tie": ("1",)},
            {"task.name": SIX_SETS, "adapter.name": ("full",), "precision": ("fp32",)},
        ),
        ADAPTER,
    ),
    least=(TWO_SIZES, ("u", "adapter.name")),
    paper="Qwen2.5-7B-Instruct: 13 parameters keep 66% of the gain, 196 keep 87%, 392 keep 95%.",
    make=six_benchmarks.six_benchmarks,
    command=_preset("table2"),
)
FAMILIES = Item(
    "families",
    title="Qwen and Llama",
    shows="The two families' accuracy by size, and how many times the parameters one needs for the same accuracy.",
    selection=Selection(_of("grpo", TINYLORA), (*MODEL, "u", "n_tie")),
    least=(TWO_SIZES, ("model.name",)),
    paper="Qwen needs about 10 times fewer parameters than Llama (text); with 100 parameters Qwen 3B has 74, Llama 3B "
    "60.",
    make=ratios.families,
    command=f"{_preset('figure8')} model=qwen2.5-3b-instruct,llama-3.2-3b-instruct",
)
RL_AND_SFT = Item(
    "rl-sft",
    title="Reinforcement learning and supervised fine-tuning",
    shows="The best accuracy of any update of a size, by GRPO and by SFT, and how many times the parameters SFT needs "
    "for the same accuracy.",
    selection=Selection((*_of("grpo", *ALL_ADAPTERS), *_of("sft", *ALL_ADAPTERS)), (*METHOD, *ADAPTER)),
    least=(TWO_SIZES, ("algorithm.name",)),
    paper="SFT needs 100 to 1000 times the parameters (text): at 13 parameters RL has 91, SFT 83.",
    make=ratios.algorithms,
    command=f"{_preset('figure1')} && {_preset('figure2')}",
)
STUDY = Item(
    "study",
    title="A small real model: GRPO and SFT by size and precision",
    shows="How few trained values teach SmolLM2-135M-Instruct sums of two digits: accuracy by trained parameters, a "
    "line for each algorithm and stored type.",
    selection=Selection(
        ({"model.name": ("smollm2-135m",), "task.name": ("reasoning_gym",), "adapter.name": ("tinylora",)},),
        (*METHOD, *ADAPTER, "precision"),
    ),
    least=(TWO_SIZES, ("algorithm.name", "precision", "sharing")),
    paper="No model this small. Of its own ones it says that 13 parameters are enough for GRPO, that SFT needs 100 to "
    "1000 times more, and that fp32 is the best type bit for bit.",
    make=by_size.by_algorithm_and_precision,
    command="python -m experiments.run -m +study=smollm2",
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
