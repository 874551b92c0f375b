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

from tinylora.adapters.base import Adapters, AssignRows, Formed, Lane, LaneSpec
from tinylora.settings.config import Adapter


class FullLane(Lane):
    """One lane's v: all parameters of the model, flattened, in the order of `named_parameters`."""

    def __init__(self, spec: LaneSpec, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(spec, torch.cat([parameter.detach().flatten().float() for parameter in parameters.values()]))
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every parameter by its name."""
        parts = self.stored_v().split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


class OwnModel(Adapters):
    """One lane with a model of its own, of which all weights are trained or none: it computes all rows as it is."""

    def __init__(self, model: nn.Module, names: Sequence[str], spec: LaneSpec, keep_base: bool) -> None:
        """`keep_base` keeps a copy of the untrained weights, for the KL term and for samples of the untrained model."""
        trained = dict(model.named_parameters()) if spec.kind is Adapter.full else {}
        super().__init__(names, [FullLane(spec, trained) if trained else Lane(spec, torch.zeros(0))])
        self._trained = [parameter.requires_grad_(True) for parameter in trained.values()]  # a list: not our parameters
        self._base = {name: value.detach().clone() for name, value in trained.items()} if keep_base else {}
        self.round()

    def form(self) -> Formed:
        """The model's own trained parameters."""

        def give_back(gradients: Sequence[torch.Tensor]) -> None:
            self.lane(0).v.grad = torch.cat([gradient.flatten().float() for gradient in gradients])

        return Formed(tuple(self._trained), give_back)

    @contextmanager
    def rows(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor] | None = None) -> Iterator[AssignRows]:
        """Inside as outside, all rows belong to the one lane."""
        yield lambda lanes: None

    @contextmanager
    def base(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """The untrained weights; none where the model's own are untrained."""
        assert self._base or not self._trained, "they were not kept"
        yield self._base

    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """None: the model's weights are the lane's."""
        return {}

    @torch.no_grad()
    def round(self) -> None:
        """Round v to its storage type, and give it to the model."""
        super().round()
        parts = self.lane(0).v.split([parameter.numel() for parameter in self._trained])
        for parameter, part in zip(self._trained, parts, strict=True):
            parameter.copy_(part.view_as(parameter))
