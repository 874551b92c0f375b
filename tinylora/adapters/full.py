"""Full fine-tuning, and no training at all: one lane whose model is its own.

Full fine-tuning trains every weight. v is one fp32 tensor of all of them, rounded to its storage type after each step,
and the model computes with copies of it in the model's type. What `precision` means is thus the same as for any other
adapter, and so is all that follows: optimizer, records and states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from tinylora.adapters.base import AssignRows, Formed, Lane, LaneSpec


class FullLane(Lane):
    """One lane's v: all parameters of the model, flattened, in the order of `named_parameters`."""

    def __init__(self, spec: LaneSpec, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(spec, torch.cat([parameter.detach().flatten().float() for parameter in parameters.values()]))
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter by its name."""
        parts = self.stored_v().split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


class OwnModel(nn.Module):
    """One lane with a model of its own: all its rows are computed by the model as it is."""

    def __init__(self, names: Sequence[str], lane: Lane) -> None:
        super().__init__()
        self.names = list(names)
        self.lanes = nn.ModuleList([lane])

    def lane(self, index: int) -> Lane:
        """The lane; it is number 0."""
        lane = self.lanes[index]
        assert isinstance(lane, Lane)
        return lane

    @contextmanager
    def rows(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor] | None = None) -> Iterator[AssignRows]:
        """Inside as outside, all rows belong to the one lane."""
        yield lambda lanes: None

    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """None: the model's weights are the lane's."""
        return {}


class Full(OwnModel):
    """All weights trained."""

    def __init__(self, model: nn.Module, names: Sequence[str], spec: LaneSpec, keep_base: bool) -> None:
        """`keep_base` keeps a copy of the untrained weights, for the KL term."""
        trained = dict(model.named_parameters())
        super().__init__(names, FullLane(spec, trained))
        self._trained = [parameter.requires_grad_(True) for parameter in trained.values()]  # a list: not our parameters
        self._base = {name: value.detach().clone() for name, value in trained.items()} if keep_base else {}
        self.round()

    def form(self) -> Formed:
        """The model's own parameters."""

        def give_back(gradients: Sequence[torch.Tensor]) -> None:
            self.lane(0).v.grad = torch.cat([gradient.flatten().float() for gradient in gradients])

        return Formed(tuple(self._trained), give_back)

    @contextmanager
    def base(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """The untrained weights."""
        assert self._base, "they were not kept"
        yield self._base

    @torch.no_grad()
    def round(self) -> None:
        """Round v to its storage type, and give it to the model."""
        lane = self.lane(0)
        lane.round()
        parts = lane.v.split([parameter.numel() for parameter in self._trained])
        for parameter, part in zip(self._trained, parts, strict=True):
            parameter.copy_(part.view_as(parameter))


class Untrained(OwnModel):
    """Nothing trained: the base model as a lane without values."""

    def __init__(self, names: Sequence[str], spec: LaneSpec) -> None:
        super().__init__(names, Lane(spec, torch.zeros(0)))

    def form(self) -> Formed:
        """Nothing."""
        return Formed((), lambda gradients: None)

    @contextmanager
    def base(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """The model itself."""
        yield {}

    def round(self) -> None:
        """Nothing to do."""
