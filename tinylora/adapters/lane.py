"""One lane: what makes its adapter, and its trained values v, which are stored in a type of their own."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from torch import nn

from tinylora.adapters.rounding import Stored, stochastic, stored, values
from tinylora.settings.config import ALL, RECIPE, Adapter, Precision, Rounding, RunConfig, Sharing


@dataclass(frozen=True)
class LaneSpec:
    """What makes one lane's adapter: with the model (and its basis), the trained values are all that is missing."""

    u: int
    n_tie: int | str = ALL
    sharing: Sharing = Sharing.tiled
    precision: Precision = Precision.fp32
    seed: int = 0
    kind: Adapter = Adapter.tinylora
    recipe: int = RECIPE
    projection_seed: int = 0
    rounding: Rounding = Rounding.nearest

    @classmethod
    def of(cls, config: RunConfig) -> LaneSpec:
        """The adapter of a sweep point."""
        return cls(
            u=config.u,
            n_tie=config.n_tie,
            sharing=config.sharing,
            precision=config.precision,
            seed=config.seed,
            kind=config.adapter.name,
            recipe=config.recipe,
            projection_seed=config.projection_root,
            rounding=config.rounding,
        )


class Lane(nn.Module):
    """The trained values of one lane, as one tensor v of fp32 copies of what is stored.

    With rounding=master a second tensor is what the optimizer moves, and v is rounded from it.
    """

    master: torch.Tensor | None

    def __init__(self, spec: LaneSpec, v: torch.Tensor) -> None:
        super().__init__()
        self.spec = spec
        self.v = nn.Parameter(v)
        master = v.clone() if spec.rounding is Rounding.master else None
        self.register_buffer("master", master, persistent=False)
        self.round()

    @property
    def trained_values(self) -> int:
        """Number of trained values."""
        return self.v.numel()

    @property
    def trained_bits(self) -> int:
        """Bits of the stored v, with the scale of whole numbers."""
        return self.spec.precision.bits_of(self.trained_values)

    @property
    def trained_bytes(self) -> int:
        """Bytes of the stored v, whose bits stand side by side."""
        return (self.trained_bits + 7) // 8

    @property
    def degrees_of_freedom(self) -> int:
        """Rank of the map from v to the updates of all maps: fewer than the values where these span less."""
        return self.trained_values

    def stored_v(self) -> Stored:
        """v in its storage type, and the scale of whole numbers: the whole of what is kept of a run."""
        return stored(self.v.detach(), self.spec.precision)

    @property
    def unrounded(self) -> torch.Tensor:
        """What the optimizer moves: the master, or v where there is none."""
        return self.v.detach() if self.master is None else self.master

    def hold(self, unrounded: torch.Tensor) -> None:
        """Take these values (of v's shape) before they are rounded: those of a saved state, say."""
        self.v.data.copy_(unrounded)
        if self.master is not None:
            self.master.copy_(unrounded)

    def step(self, optimizer: torch.optim.Optimizer, noise: torch.Generator) -> None:
        """One step of the optimizer of v, which moves the master where there is one, by v's gradient; then round.

        The noise is for stochastic rounding: of this lane and step alone.
        """
        if self.master is not None:
            self.v.data.copy_(self.master)
        optimizer.step()
        self.take(self.v.detach(), noise)

    def take(self, unrounded: torch.Tensor, noise: torch.Generator) -> None:
        """Take these values (of v's shape) and round them, as after a step; the noise is for stochastic rounding."""
        if self.spec.rounding is Rounding.stochastic:
            unrounded = stochastic(unrounded, self.spec.precision, noise)
        self.hold(unrounded)
        self.round()

    def round(self) -> None:
        """Round v to its storage type, from the master where there is one; what is rounded stays as it is."""
        if self.spec.precision is not Precision.fp32:
            self.v.data.copy_(values(*stored(self.unrounded, self.spec.precision)))

    def tensors(self) -> dict[str, torch.Tensor]:
        """What an adapter file holds, by name, in the storage type; `scale` () where that is whole numbers."""
        kept, scale = self.stored_v()
        return self._named(kept) | ({} if scale is None else {"scale": scale})

    def hold_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take what the adapter file of a lane like this one holds. ValueError where that is another kind of lane's."""
        kept = self._joined({name: tensor for name, tensor in tensors.items() if name != "scale"})
        if kept.shape != self.v.shape:
            raise ValueError(f"it holds values of the shape {tuple(kept.shape)}, and not {tuple(self.v.shape)}")
        self.hold(values(kept, tensors.get("scale")))

    def _named(self, kept: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parts of v's stored values by name."""
        return {"v": kept}

    def _joined(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """v's stored values from their parts: the way back of `_named`. ValueError where these are others."""
        require_names(parts, {"v"})
        return parts["v"]


def require_names(parts: Mapping[str, torch.Tensor], names: Set[str]) -> None:
    """Raise ValueError unless the parts of some v are these."""
    if other := sorted(parts.keys() ^ names):
        raise ValueError(f"{other[0]} is in one of the two alone")
