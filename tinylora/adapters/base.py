"""What all ways of training have in common: lanes, each with its trained values, on maps of one frozen model.

    lane.py      the trained values of one lane, and how they are stored
    tinylora.py  TinyLoRA and LoRA-XS: the frozen basis of each map, and a small matrix R of each lane
    lora.py      LoRA: two factors of each lane for each map
    full.py      all weights of the model, or none of them: one lane

The loops know `Adapters` alone: they form what a loss is differentiated for once a step, give the rows of each batch
their lanes, and hand the gradients back to every lane's `v`. The types of the arithmetic are

    base weights and activations      model.dtype
    basis (U Sigma, V)                computed and cached in fp32, used in model.dtype
    projections P, R = sum v P        fp32
    v                                 stored in `precision`, held as fp32 copies of the stored values (`rounding`)
    Adam moments, losses, log-probs   fp32

Storing v in 16 bits is the paper's question (Fig. 4): after every optimizer step v is rounded to the type, so a step
smaller than half the spacing of its values is lost, unless chance or an fp32 master keeps it (`spec.rounding`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tinylora.adapters.lane import Lane
from tinylora.adapters.mixing import RowMatrices
from tinylora.settings.errors import UsageError

PLAIN = (nn.Linear.forward, Conv1D.forward)

AssignRows = Callable[[torch.Tensor], RowMatrices | None]
"""Gives the rows of the next batches their lanes (A,); returns their R, where lanes differ in R alone."""


@dataclass(frozen=True)
class Formed:
    """What losses are differentiated for in one step, and the way back from there to every lane's v."""

    leaves: tuple[torch.Tensor, ...]
    give_back: Callable[[Sequence[torch.Tensor]], None]
    """From the gradients of the leaves: adds its gradient to every v."""


class Adapters(nn.Module, ABC):
    """The trained part of a pack: what the loops ask of it."""

    def __init__(self, names: Sequence[str], lanes: Sequence[Lane]) -> None:
        """`names` are those of the adapted maps, in depth order."""
        super().__init__()
        self.names, self.lanes = list(names), nn.ModuleList(lanes)

    def lane(self, index: int) -> Lane:
        """Lane number `index`."""
        lane = self.lanes[index]
        assert isinstance(lane, Lane)
        return lane

    def round(self) -> None:
        """Round every lane's v to its storage type, as after each optimizer step, and compute with it from now on."""
        for lane in self.lanes:
            lane.round()  # type: ignore[operator]

    def step(self, index: int, optimizer: torch.optim.Optimizer, noise: torch.Generator) -> None:
        """One optimizer step of one lane, as `Lane.step` makes it, and compute with it from now on."""
        self.lane(index).step(optimizer, noise)

    @abstractmethod
    def form(self) -> Formed:
        """What the losses of the next step are differentiated for."""

    @abstractmethod
    def updates(self, index: int) -> Iterator[tuple[str, torch.Tensor]]:
        """What one lane adds to the model's parameters, by their names: fp32, in the shape of the parameter."""

    @abstractmethod
    def rows(
        self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor] | None = None
    ) -> AbstractContextManager[AssignRows]:
        """Inside, row a of every batch is computed with lane `lane_of_row[a]` (A,); outside, as before.

        What lanes are made of is formed once, on entry, unless it is given as the `leaves` of `form`. The function
        that the context gives assigns other lanes, for batches of other rows.
        """

    @abstractmethod
    def base(self) -> AbstractContextManager[Mapping[str, torch.Tensor]]:
        """Inside, the model computes as before training, given the parameters of the context in place of its own."""

    @abstractmethod
    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """Weights of one lane by parameter name, to stand in for the model's; none where these are the lane's own."""


class MapAdapters(Adapters):
    """Adapters of single linear maps: each map gets a forward of its own, and the base weights are never touched."""

    def __init__(self, model: nn.Module, names: Sequence[str], rank: int, lanes: Sequence[Lane]) -> None:
        super().__init__(names, lanes)
        self.rank = rank
        self._maps = {name: model.get_submodule(name) for name in self.names}  # a dict: not our submodules
        for name, module in self._maps.items():
            _require_plain(name, module)
        self._rows: Any = None  # inside `rows`: what the forwards compute with
        self._count = 1  # how many rows these are

    def _take_place(self) -> None:
        """Give every map its new forward: the last step of construction."""
        self.to(next(self._maps[self.names[0]].parameters()).device)
        for index, module in enumerate(self._maps.values()):
            module.forward = self._forward_of(index, module)

    @abstractmethod
    def _forward_of(self, index: int, module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The forward of one map with its adapter."""

    @abstractmethod
    def _formed(self) -> tuple[torch.Tensor, ...]:
        """What all lanes are made of, differentiable in every v."""

    @abstractmethod
    def _assign(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor]) -> RowMatrices | None:
        """Set `_rows` for rows of these lanes (A,)."""

    @abstractmethod
    def low_rank(self, index: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """One lane's update of every map as B^T (r, d_out) and A (r, d_in), with delta W = B A; fp32."""

    @torch.no_grad()
    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """W + delta W of every adapted map for one lane, by parameter name, in the weights' type.

        Built from the untouched base weights each time; for `torch.func.functional_call` or for saving.
        """
        weights: dict[str, Any] = {f"{name}.weight": module.weight for name, module in self._maps.items()}
        updates = self.updates(index)
        return {name: (weights[name].float() + update).to(weights[name].dtype) for name, update in updates}

    @torch.no_grad()
    def updates(self, index: int) -> Iterator[tuple[str, torch.Tensor]]:
        """delta W of every adapted map, laid out as the module has its weight."""
        for name, (left, right) in self.low_rank(index).items():
            transposed = isinstance(self._maps[name], Conv1D)
            update = left.T @ right  # (d_out, d_in)
            yield f"{name}.weight", update.T.contiguous() if transposed else update

    def form(self) -> Formed:
        """What the losses of the next step are differentiated for."""
        formed = self._formed()
        leaves = tuple(tensor.detach().requires_grad_() for tensor in formed)
        return Formed(leaves, lambda gradients: torch.autograd.backward(formed, gradients))

    @contextmanager
    def rows(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor] | None = None) -> Iterator[AssignRows]:
        """Inside, the maps add to every row the update of its lane."""
        before = self._rows, self._count
        formed = self._formed() if leaves is None else leaves

        def assign(lanes: torch.Tensor) -> RowMatrices | None:
            self._count = len(lanes)
            return self._assign(lanes, formed)

        assign(lane_of_row)
        try:
            yield assign
        finally:
            self._rows, self._count = before

    @contextmanager
    def base(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """Inside, all rows see the base model, whose parameters are its own."""
        before, self._rows = self._rows, None
        try:
            yield {}
        finally:
            self._rows = before

    def detach(self) -> None:
        """Remove the adapters; the model is as it was before."""
        for module in self._maps.values():
            del module.forward


def bias_of(module: nn.Module) -> torch.Tensor | None:
    """The bias (d_out,) of a map that has one."""
    bias = module.bias
    assert bias is None or isinstance(bias, torch.Tensor)
    return bias


def _require_plain(name: str, module: nn.Module) -> None:
    if "forward" in vars(module) or not (type(module).forward in PLAIN or _computes_as_linear(module)):
        raise UsageError(
            f"the linear map {name}",
            "an adapter takes the place of its forward, and another adapter or a special kind of layer has done so",
            "detach the adapter that is there, or load the model unquantised and on one device",
        )


@torch.no_grad()
def _computes_as_linear(module: nn.Module) -> bool:
    """Whether a family's own kind of nn.Linear, such as Falcon's, gives what nn.Linear would."""
    if not isinstance(module, nn.Linear) or any(module.children()):
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, module.in_features, generator=generator).to(module.weight)
    return torch.allclose(module(x), nn.functional.linear(x, module.weight, module.bias), rtol=1e-2, atol=1e-3)
