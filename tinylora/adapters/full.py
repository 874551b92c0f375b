"""Full fine-tuning, and no training at all: one lane whose model is its own.

Full fine-tuning trains an update of every weight. v is one fp32 tensor of all of them, zero at first and rounded to its
storage type after each step, and the model computes with the base weights plus v, in its own type. So step 0 is the
base model whatever the type, and what `precision` means is the same as for any other adapter, and so is all that
follows: optimizer, records and states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from tinylora.adapters.base import Adapters, AssignRows, Formed
from tinylora.adapters.lane import Lane, LaneSpec, require_names
from tinylora.settings.config import Adapter


class FullLane(Lane):
    """One lane's v: the updates of all parameters of the model, flattened, in the order of `named_parameters`."""

    def __init__(self, spec: LaneSpec, parameters: Mapping[str, nn.Parameter]) -> None:
        values = sum(parameter.numel() for parameter in parameters.values())
        super().__init__(spec, torch.zeros(values, device=next(iter(parameters.values())).device))
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}

    def parts(self, v: torch.Tensor) -> dict[str, torch.Tensor]:
        """A tensor like v as the parameters that it is of, by name."""
        parts = v.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _named(self, kept: torch.Tensor) -> dict[str, torch.Tensor]:
        """The update of every parameter by its name."""
        return self.parts(kept)

    def _joined(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """v (values,) of the updates of every parameter."""
        require_names(parts, self.shapes.keys())
        for name, shape in self.shapes.items():
            if parts[name].shape != shape:
                raise ValueError(f"{name} is of another shape than the model's")
        return torch.cat([parts[name].flatten() for name in self.shapes])


class OwnModel(Adapters):
    """One lane with a model of its own, of which all weights are trained or none: it computes all rows as it is."""

    def __init__(self, model: nn.Module, names: Sequence[str], spec: LaneSpec) -> None:
        trained = dict(model.named_parameters()) if spec.kind is Adapter.full else {}
        super().__init__(names, [FullLane(spec, trained) if trained else Lane(spec, torch.zeros(0))])
        self._trained = {name: parameter.requires_grad_(True) for name, parameter in trained.items()}  # not ours
        self._base = {name: value.detach().clone() for name, value in trained.items()}

    def form(self) -> Formed:
        """The model's own trained parameters."""

        def give_back(gradients: Sequence[torch.Tensor]) -> None:
            self.lane(0).v.grad = torch.cat([gradient.flatten().float() for gradient in gradients])

        return Formed(tuple(self._trained.values()), give_back)

    @contextmanager
    def rows(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor] | None = None) -> Iterator[AssignRows]:
        """Inside as outside, all rows belong to the one lane."""
        yield lambda lanes: None

    @contextmanager
    def base(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """The untrained weights; none where the model's own are untrained."""
        yield self._base

    def updates(self, index: int) -> Iterator[tuple[str, torch.Tensor]]:
        """v, of every trained parameter."""
        lane = self.lane(index)
        if isinstance(lane, FullLane):
            yield from lane.parts(lane.v.detach()).items()

    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """None: the model's weights are the lane's."""
        return {}

    def round(self) -> None:
        """Round v to its storage type, and give it to the model."""
        super().round()
        self._give()

    def step(self, index: int, optimizer: torch.optim.Optimizer, noise: torch.Generator) -> None:
        """One optimizer step of v, which is then given to the model."""
        super().step(index, optimizer, noise)
        self._give()

    @torch.no_grad()
    def _give(self) -> None:
        for name, update in self.updates(0):
            self._trained[name].copy_(self._base[name].float() + update)
