"""LoRA (Hu et al. 2021) for many lanes in one model: W' = W + B A, both factors trained, for every adapted map.

A (r, d_in) starts as PEFT draws it, uniform within 1/sqrt(d_in); B (d_out, r) starts at zero, so the adapted model is
exactly the base model. There is no scale alpha/r: it would be one more name for the learning rate. Both factors of all
maps are one tensor v, so that the optimizer, the records and the states are those of any lane.

The factors of all lanes stand side by side, and a mask leaves of the reduced input what is the row's own:

    y = x W^T + (mask * (x A_all^T)) B_all^T          A_all (L r, d_in), B_all (d_out, L r)

which costs two products for all lanes instead of two for each. It is cheap while L r is small beside the model's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from tinylora.adapters.base import MapAdapters, bias_of
from tinylora.adapters.lane import Lane, LaneSpec, require_names
from tinylora.adapters.noise import torch_stream
from tinylora.models.maps import weight_of

Shapes = dict[str, tuple[int, int]]
"""(d_out, d_in) of every adapted map, by name, in depth order."""


def initial_factor(seed: int, module: str, rank: int, d_in: int) -> torch.Tensor:
    """A (r, d_in) of one map before training: a pure function of the arguments."""
    generator = torch_stream(seed, "lora", module, rank, d_in)
    return ((2 * torch.rand(rank, d_in, generator=generator, dtype=torch.float64) - 1) / math.sqrt(d_in)).float()


class LoraLane(Lane):
    """One lane's v: A (r, d_in) and B^T (r, d_out) of every map, flattened, map by map."""

    def __init__(self, spec: LaneSpec, shapes: Shapes, rank: int) -> None:
        parts = []
        for name, (d_out, d_in) in shapes.items():
            parts += [initial_factor(spec.seed, name, rank, d_in).flatten(), torch.zeros(rank * d_out)]
        super().__init__(spec, torch.cat(parts))
        self.shapes, self.rank = shapes, rank

    def _named(self, kept: torch.Tensor) -> dict[str, torch.Tensor]:
        """A (r, d_in) and B (d_out, r) of every map, named as in PEFT."""
        found: dict[str, torch.Tensor] = {}
        for name, (a, b) in zip(self.shapes, split(kept[None], self.shapes, self.rank), strict=True):
            found |= {f"{name}.lora_A.weight": a[0], f"{name}.lora_B.weight": b[0].T.contiguous()}
        return found

    def _joined(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """v (values,) of the factors of every map."""
        names = [(f"{name}.lora_A.weight", f"{name}.lora_B.weight") for name in self.shapes]
        require_names(parts, {name for pair in names for name in pair})
        for (a, b), (d_out, d_in) in zip(names, self.shapes.values(), strict=True):
            if (parts[a].shape, parts[b].shape) != ((self.rank, d_in), (d_out, self.rank)):
                raise ValueError(f"{a} and {b} are of other shapes than the model's map")
        return torch.cat([part for a, b in names for part in (parts[a].flatten(), parts[b].T.flatten())])


def split(v: torch.Tensor, shapes: Shapes, rank: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A (L, r, d_in) and B^T (L, r, d_out) of every map, from the v of all lanes (L, values)."""
    sizes = [rank * side for d_out, d_in in shapes.values() for side in (d_in, d_out)]
    parts = [part.view(len(v), rank, -1) for part in v.split(sizes, dim=1)]
    return list(zip(parts[::2], parts[1::2], strict=True))


class Lora(MapAdapters):
    """The LoRA adapters of L lanes on one frozen model."""

    def __init__(self, model: nn.Module, shapes: Shapes, rank: int, specs: Sequence[LaneSpec]) -> None:
        super().__init__(model, list(shapes), rank, [LoraLane(spec, shapes, rank) for spec in specs])
        self.shapes = shapes
        self._take_place()

    def _formed(self) -> tuple[torch.Tensor, ...]:
        return (torch.stack([lane.v for lane in self.lanes]),)  # type: ignore[misc]

    def _assign(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor]) -> None:
        """Take the factors from `leaves`, which hold every v (L, values), and mask them for rows of these lanes."""
        (formed,) = leaves
        own = functional.one_hot(lane_of_row.to(formed.device), len(formed))  # (A, L)
        dtype = weight_of(self._maps[self.names[0]]).dtype
        mask = own.repeat_interleave(self.rank, dim=1)[:, None].to(dtype) if len(formed) > 1 else None
        factors = [
            (a.flatten(0, 1).to(dtype), b.flatten(0, 1).to(dtype)) for a, b in split(formed, self.shapes, self.rank)
        ]
        self._rows = mask, factors

    @torch.no_grad()
    def low_rank(self, index: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """One lane's update as B^T (r, d_out) and A (r, d_in), with delta W = B A; fp32."""
        factors = split(self.lane(index).v[None], self.shapes, self.rank)
        return {name: (b[0], a[0]) for name, (a, b) in zip(self.names, factors, strict=True)}

    def _forward_of(self, index: int, module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:

        def forward(x: torch.Tensor) -> torch.Tensor:
            output = functional.linear(x, weight_of(module), bias_of(module))
            if self._rows is None:
                return output
            mask, factors = self._rows
            a, b = factors[index]
            reduced = functional.linear(x, a)  # (A, T, L r)
            if mask is not None:  # some families flatten rows
                reduced = (reduced.view(len(mask), -1, mask.shape[-1]) * mask).view_as(reduced)
            update: torch.Tensor = reduced @ b
            return output + update

        return forward
