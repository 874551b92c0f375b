"""Table 1: how many parameters each method trains, in letters and for a given model."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from tinylora.models.shapes import adapted_shapes, shape_parameters
from tinylora.settings.config import ShapeConfig

RANKS = (1, 2, 8)


def parameter_formulas(model: str, shape: ShapeConfig) -> pd.DataFrame:
    """One table row for each method.

    n blocks, m maps a block, d the width; the sums are over the model's own maps, which are not all d by d.
    """
    maps = adapted_shapes(shape)
    both = sum(module.d_out + module.d_in for module in maps)
    outputs = sum(module.d_out for module in maps)
    weights = sum(module.d_out * module.d_in for module in maps)
    rows = [
        ("full fine-tuning", "n m d^2", f"{weights:,} in maps, {shape_parameters(shape):,} in all", f"{weights:,}"),
        ("LoRA", "2 n m d r", _by_rank(lambda r: r * both), f"{both:,} (r=1)"),
        ("VeRA", "n m (d + r)", _by_rank(lambda r: outputs + r * len(maps)), f"{outputs + len(maps):,} (r=1)"),
        ("LoRA-XS", "n m r^2", _by_rank(lambda r: r * r * len(maps)), f"{len(maps):,} (r=1)"),
        (
            "TinyLoRA",
            "n m u / n_tie",
            f"{len(maps):,} (u=1, n_tie=1), {math.ceil(len(maps) / 16):,} (u=1, n_tie=16)",
            "1 (u=1, all tied)",
        ),
    ]
    return pd.DataFrame([(model, *row) for row in rows], columns=["model", "method", "trained", "here", "least"])


def _by_rank(count: Callable[[int], int]) -> str:
    return ", ".join(f"{count(rank):,} (r={rank})" for rank in RANKS)
