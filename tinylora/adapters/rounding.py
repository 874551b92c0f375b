"""How v becomes what is stored: floating-point types, and whole numbers with one scale.

    fp32, bf16, fp16   the nearest value of the type; 16 bits can also be rounded stochastically
    int8, int4         scale * q with q from -127 to 127, or -7 to 7; scale = max |v| over the largest q
    int2               scale * q with q -1, 0 or 1; 0 where |v| is below 0.7 of its mean, scale = mean |v| of the others
                       (Ternary Weight Networks, Li et al. 2016)
    int1               scale * sign(v) with scale = mean |v| (XNOR-Net, Rastegari et al. 2016)

One scale serves a whole lane: with one for each group of modules, the scales of u=1 would weigh 32 bits for each value.
Of a scale in fp32 the last 8 bits are 0. So q * scale is exact: the same v on every machine, and rounding what is
rounded changes nothing.
"""

from __future__ import annotations

import torch

from tinylora.models.load import TORCH_DTYPE
from tinylora.settings.config import Precision

TERNARY = 0.7  # of the mean of |v|, below which a ternary value is 0
KEPT = -(2**8)  # the bits of a scale that are kept, as a mask

Stored = tuple[torch.Tensor, torch.Tensor | None]
"""v in its storage type, and the scale () of whole numbers."""


def stored(v: torch.Tensor, precision: Precision) -> Stored:
    """v of any shape, fp32, as the nearest values of its storage type: of whole numbers int8, with their scale."""
    if not precision.whole:
        return v.to(TORCH_DTYPE[precision]), None
    scale = _scale(v, precision)
    if precision is Precision.int1:
        q = torch.where(v < 0, -1.0, 1.0)
    elif precision is Precision.int2:
        q = torch.where(v.abs() < TERNARY * _mean(v.abs()), 0.0, v.sign())
    else:
        q = (v / scale.clamp(min=torch.finfo().tiny)).round().clamp(-precision.largest, precision.largest)
    return q.to(torch.int8), scale


def values(kept: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """What stored values stand for, fp32."""
    return kept.float() if scale is None else kept * scale


def stochastic(v: torch.Tensor, precision: Precision, noise: torch.Generator) -> torch.Tensor:
    """v as values of a 16-bit type, fp32: one of the two neighbours of each, so that the mean over the noise is v.

    What has the type already stays as it is. The noise is drawn on the CPU, the same for all devices.
    """
    nearest = v.to(TORCH_DTYPE[precision])
    bits = nearest.view(torch.int16)  # sign and magnitude: one more is the next value away from zero
    away = nearest.float().abs() < v.abs()
    other = torch.where(away, bits + 1, bits - 1).view(nearest.dtype).float()
    off = (v - nearest.float()).abs()
    share = off / (other - nearest.float()).abs()
    draw = torch.rand(v.shape, generator=noise).to(v.device)
    return torch.where((off > 0) & (draw < share), other, nearest.float())


def _scale(v: torch.Tensor, precision: Precision) -> torch.Tensor:
    size = v.abs()
    if v.numel() == 0:
        return v.new_zeros(())
    if precision is Precision.int1:
        scale = _mean(size)
    elif precision is Precision.int2:
        scale = _mean(size[size >= TERNARY * _mean(size)])
    else:
        scale = size.max() / precision.largest
    return ((scale.float().view(torch.int32) + 2**7) & KEPT).view(torch.float32)


def _mean(size: torch.Tensor) -> torch.Tensor:
    """The mean in fp64, where the sum of equal scales is exact."""
    return size.mean(dtype=torch.float64)
