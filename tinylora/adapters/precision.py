"""The types of the arithmetic, in one place.

    base weights and activations   model.dtype
    basis (U Sigma, V)             computed and cached in fp32, used in model.dtype
    projections P, R = sum v P     fp32
    v                              stored in `precision`, held as fp32 copies of the stored values
    Adam moments, losses, log-probs   fp32

Storing v in 16 bits is the paper's question (Fig. 4): after every optimizer step v is rounded to the type, so a step
smaller than half the spacing of its values is lost.
"""

from __future__ import annotations

import torch

from tinylora.models.load import TORCH_DTYPE
from tinylora.settings.config import Precision


def stored(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """`values` as they are stored: rounded to nearest in `precision`."""
    return values.to(TORCH_DTYPE[precision])


@torch.no_grad()
def round_to_stored(values: torch.Tensor, precision: Precision) -> None:
    """Replace fp32 values in place by what is left of them after storage in `precision`."""
    if precision is not Precision.fp32:
        values.copy_(stored(values, precision))
