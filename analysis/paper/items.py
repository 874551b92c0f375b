"""Every table and figure of the paper, and of what the paper has not, as a declaration: which runs it shows, and how.
`items.yaml` says in words what that is, what the paper reports, and what makes the runs.

A run belongs to an item by its recorded settings alone. An item is drawn once for each part of its runs whose other
settings agree (`statistics.selection`), when there is something to compare (`least`). What no item shows is shown by
`ACCURACY` and `TRAINING`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from analysis.options import ITEM_TEXTS
from analysis.paper import by_setting, by_size, ratios, six_benchmarks, smallest_update, training_curves
from analysis.paper.figure_points import Maker
from analysis.paper.plain_sweeps import accuracy, training
from analysis.statistics.selection import ADAPTER, METHOD, MODEL, NUMBER, Selection, Where

REWARD = "algorithm.reward"
RIGHT: Where = {REWARD: ("",)}
"""Runs that reward right answers. That is the default, and the default of a setting that was added is not recorded."""
TINYLORA: Where = {"adapter.name": ("tinylora",), "sharing": ("tiled",), "rank": ("2",), "precision": ("fp32",)}
LORA_XS: Where = {"adapter.name": ("lora_xs",), "sharing": ("tiled",), "precision": ("fp32",)}
LORA: Where = {"adapter.name": ("lora",), "precision": ("fp32",)}
THIRTEEN: Where = TINYLORA | {"u": ("13",), "n_tie": ("all",)}
"""The paper's thirteen are u=1, on more maps than a small model has: there 13 values that all maps share stand in."""
ALL_ADAPTERS: tuple[Where, ...] = (
    TINYLORA | {"u": ("1",)},
    TINYLORA | {"u": ("64",), "n_tie": ("all",)},
    LORA_XS,
    LORA | {"adapter.name": ("lora", "full")},
)
SIX_SETS = ("math", "sums")  # the task whose runs score all six, and the one of the scale models
UNTIED_OR_TIED = ("1", "8", "64", "all")
VALUES = ("1", "4", "16", "64")
RANKS = ("1", "2", "4", "16", "64")
TWO_SIZES = ("trained_values",)
MODEL_SIZE = "model.parameters"


@dataclass(frozen=True)
class Item:
    """One table or figure."""

    name: str
    title: str
    shows: str
    """What a reader sees."""
    selection: Selection
    least: tuple[tuple[str, ...], ...]
    """To be drawn, of each group at least one setting has two values."""
    make: Maker
    command: str
    """What makes its runs; of `rest` one of many."""
    paper: str = ""
    """What the paper reports; "" where it has nothing of the kind."""
    beside: bool = False
    """Whether it shows runs that are shown elsewhere, too."""
    rest: bool = False
    """Whether its runs are, of those that it selects, the ones that no other item shows; one of them is enough."""

    def too_little(self, cells: pd.DataFrame) -> str:
        """Why these cells are not enough to draw; "" where they are."""
        if cells.empty:
            return "no test accuracy"
        lacking = [group for group in self.least if max(_values(cells, name) for name in group) < 2]
        return "; ".join(f"one value of {' and '.join(group)}" for group in lacking)


def _values(cells: pd.DataFrame, name: str) -> int:
    """How many values a setting has (0: no run has it); sizes of models that differ by less than a tenth are one."""
    if name not in cells:
        return 0
    if name != MODEL_SIZE:
        return int(cells[name].nunique())
    sizes: list[float] = sorted(cells[name].dropna().astype(float))
    return min(1, len(sizes)) + sum(larger > 1.1 * smaller for smaller, larger in pairwise(sizes))


def _item(
    name: str,
    make: Maker,
    selection: Selection,
    least: tuple[tuple[str, ...], ...] = (),
    beside: bool = False,
    rest: bool = False,
) -> Item:
    return Item(name, make=make, selection=selection, least=least, beside=beside, rest=rest, **ITEM_TEXTS[name])


def _of(algorithm: str, *alternatives: Where) -> tuple[Where, ...]:
    return tuple({"algorithm.name": (algorithm,), **RIGHT, **alternative} for alternative in alternatives)


FIGURE_1 = _item(
    "figure1",
    by_size.accuracy_by_size,
    Selection(_of("grpo", THIRTEEN, *ALL_ADAPTERS), ADAPTER),
    least=(TWO_SIZES, ("adapter.name",)),
)
FIGURE_2 = _item(
    "figure2",
    by_size.accuracy_by_size,
    Selection(_of("sft", THIRTEEN, *ALL_ADAPTERS), ADAPTER),
    least=(TWO_SIZES, ("adapter.name",)),
)
FIGURE_3 = _item(
    "figure3",
    smallest_update.smallest_updates,
    Selection(_of("grpo", TINYLORA | {"u": ("1",)}, LORA_XS, LORA), (*MODEL, *ADAPTER)),
    least=(TWO_SIZES, ("adapter.name",), (MODEL_SIZE,)),
)
ONE_VALUE: Where = {"adapter.name": ("tinylora",), "rank": ("2",), "u": ("1",), "n_tie": (NUMBER,)}
FIGURE_4 = _item(
    "figure4",
    by_size.precision_and_sharing,
    Selection(_of("grpo", ONE_VALUE), ("n_tie", "sharing", "precision")),
    least=(TWO_SIZES, ("precision", "sharing")),
)
FIGURE_5 = _item(
    "figure5",
    training_curves.dynamics,
    Selection(_of("grpo", TINYLORA | {"n_tie": ("1",), "u": ("1", "2", "32", "512")}), ("u",)),
    least=(TWO_SIZES,),
)
TIED_BY_8 = {"n_tie": ("8",), "rank": ("8",)}
FIGURE_6 = _item(
    "figure6",
    by_size.by_backbone,
    Selection(_of("grpo", LORA_XS | {"n_tie": ("1",)}, LORA_XS | TIED_BY_8, LORA), (*MODEL, *ADAPTER)),
    least=(TWO_SIZES,),
)
FIGURE_7 = _item(
    "figure7",
    by_setting.frozen_rank,
    Selection(_of("grpo", TINYLORA | {"n_tie": ("1",), "rank": RANKS, "u": VALUES}), (*MODEL, "rank", "u")),
    least=(("rank",), ("u",)),
)
GRID = Selection(_of("grpo", TINYLORA | {"n_tie": UNTIED_OR_TIED, "u": VALUES}), (*MODEL, "n_tie", "u"))
FIGURE_8 = _item("figure8", by_setting.ties, GRID, least=(("n_tie",), ("u",)))
FIGURE_9 = _item("figure9", by_setting.values_per_group, GRID, least=(("n_tie",), ("u",)))
TABLE_2 = _item(
    "table2",
    six_benchmarks.six_benchmarks,
    Selection(
        _of(
            "grpo",
            TINYLORA | {"task.name": SIX_SETS, "u": ("1",), "n_tie": ("16", "4", "1")},
            TINYLORA | {"task.name": SIX_SETS, "u": ("2", "32", "512"), "n_tie": ("1",)},
            {"task.name": SIX_SETS, "adapter.name": ("full",), "precision": ("fp32",)},
        ),
        ADAPTER,
    ),
    least=(TWO_SIZES, ("u", "adapter.name")),
)
FAMILIES = _item(
    "families",
    ratios.families,
    Selection(_of("grpo", TINYLORA), (*MODEL, "u", "n_tie")),
    least=(TWO_SIZES, ("model.name",)),
)
RL_AND_SFT = _item(
    "rl-sft",
    ratios.algorithms,
    Selection((*_of("grpo", *ALL_ADAPTERS), *_of("sft", *ALL_ADAPTERS)), (*METHOD, *ADAPTER)),
    least=(TWO_SIZES, ("algorithm.name",)),
)
SMOLLM2: Where = {"model.name": ("smollm2-135m",), "task.name": ("reasoning_gym",), "adapter.name": ("tinylora",)}
BITS = _item(
    "bits",
    by_size.by_bits,
    Selection(
        _of("grpo", {"adapter.name": ("tinylora",), "sharing": ("tiled",), "rank": ("2",)}),
        ("u", "n_tie", "precision", "rounding"),
    ),
    least=(("trained_bits",), ("precision", "rounding")),
    beside=True,
)
STUDY = _item(
    "study",
    by_size.by_algorithm_and_precision,
    Selection((SMOLLM2 | RIGHT,), (*METHOD, *ADAPTER, "precision")),
    least=(TWO_SIZES, ("algorithm.name", "precision", "sharing")),
)
RANDOM_SEARCH: Where = TINYLORA | {"algorithm.name": ("random_search",)}
CONTROLS = _item(
    "controls",
    by_size.by_control,
    Selection(
        (*_of("grpo", TINYLORA | {REWARD: ("", "form", "shuffled")}), RANDOM_SEARCH),
        ("algorithm.name", REWARD, *by_size.OF_GRPO_ALONE, *ADAPTER),
    ),
    least=((REWARD, "algorithm.name"),),
)
ACCURACY = _item("accuracy", accuracy, Selection(({},), axes=None), rest=True)
TRAINING = _item("training", training, Selection(({"algorithm.name": ("grpo",)},), axes=None), beside=True, rest=True)
FIGURES = (FIGURE_1, FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_7, FIGURE_8, FIGURE_9)
ITEMS = (
    *FIGURES,
    TABLE_2,
    FAMILIES,
    RL_AND_SFT,
    BITS,
    CONTROLS,
    STUDY,
    ACCURACY,
    TRAINING,
)
