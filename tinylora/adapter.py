"""TinyLoRA: W' = W + U Sigma (sum_i v_i P_i) V^T, for many lanes in one model (paper section 3, equation of TinyLoRA).

Only v is trained. U, Sigma, V are the frozen basis, P (u, r, r) is a fixed random tensor of each module, normal with
standard deviation 1/sqrt(r) (the paper does not say; PEFT does the same), drawn from a named stream and never stored.
v starts at zero, so the adapted model is exactly the base model. Sigma stands on the left, as in the paper (PEFT
splits its square root over both sides: not the same).

The base weights are never touched: forward hooks add the update to the output of each adapted linear map,

    y = x W^T + ((x V) R[lane]^T) (U Sigma)^T          R[lane, m] = sum_i v[lane, group(m), i] P[m, i]

so rows of different lanes share one batch and differ in r x r matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from tinylora.basis import Basis
from tinylora.config import ALL, Precision, RunConfig, Sharing
from tinylora.precision import round_to_stored, stored
from tinylora.seeds import torch_stream
from tinylora.tying import Groups, tie


@dataclass(frozen=True)
class LaneSpec:
    """What makes one lane's adapter: with the model and its basis, v is all that is missing."""

    u: int
    n_tie: int | str = ALL
    sharing: Sharing = Sharing.tiled
    precision: Precision = Precision.fp32
    seed: int = 0

    @classmethod
    def of(cls, config: RunConfig) -> LaneSpec:
        """The adapter of a sweep point."""
        return cls(config.u, config.n_tie, config.sharing, config.precision, config.seed)


def projection(seed: int, module: str, u: int, rank: int) -> torch.Tensor:
    """P (u, r, r) of one module: normal, standard deviation 1/sqrt(r), a pure function of the arguments."""
    generator = torch_stream(seed, "projection", module, u, rank)
    return torch.randn(u, rank, rank, generator=generator) / math.sqrt(rank)


class Lane(nn.Module):
    """One lane's trained v (K, u), with the projections and groups that turn it into R (M, r, r)."""

    projections: torch.Tensor  # (M, u, r, r)
    group_of: torch.Tensor  # (M,)

    def __init__(self, spec: LaneSpec, modules: Sequence[str], rank: int) -> None:
        super().__init__()
        self.spec = spec
        self.groups: Groups = tie(modules, spec.sharing, spec.n_tie)
        group_of = torch.empty(len(modules), dtype=torch.long)
        for group, members in enumerate(self.groups):
            group_of[list(members)] = group
        self.register_buffer("group_of", group_of, persistent=False)
        projections = torch.stack([projection(spec.seed, name, spec.u, rank) for name in modules])
        self.register_buffer("projections", projections, persistent=False)
        self.v = nn.Parameter(torch.zeros(len(self.groups), spec.u))  # (K, u), fp32 copies of the stored values

    @property
    def trained_values(self) -> int:
        """Number of trained values, K * u."""
        assert self.v.numel() == len(self.groups) * self.spec.u, "v does not hold one u-vector per group"
        return self.v.numel()

    @property
    def trained_bytes(self) -> int:
        """Bytes of the stored v."""
        return self.trained_values * self.spec.precision.size

    def matrices(self) -> torch.Tensor:
        """R (M, r, r) of all modules, fp32, differentiable in v."""
        return torch.einsum("mu,murs->mrs", self.v[self.group_of], self.projections)

    def stored_v(self) -> torch.Tensor:
        """v (K, u) in its storage type: the whole of what is kept of a run."""
        return stored(self.v.detach(), self.spec.precision)

    def round(self) -> None:
        """Round v to its storage type, as after every optimizer step."""
        round_to_stored(self.v.data, self.spec.precision)


class TinyLora(nn.Module):
    """The adapters of L lanes on one frozen model.

    Rows without a lane see the base model. `rows` assigns a lane to each row of the batches run inside it;
    `use_lane` gives all rows one lane until further notice.
    """

    def __init__(self, model: nn.Module, basis: Basis, specs: Sequence[LaneSpec]) -> None:
        super().__init__()
        self.basis = basis
        self.rank = basis.rank
        self.names = list(basis.factors)
        self.lanes = nn.ModuleList(Lane(spec, self.names, basis.rank) for spec in specs)
        self._linears = {name: model.get_submodule(name) for name in self.names}  # a dict: not our submodules
        for index, (name, factors) in enumerate(basis.factors.items()):
            weight = self._linears[name].weight
            assert isinstance(weight, torch.Tensor)
            assert weight.shape == (len(factors.u), len(factors.v)), f"the basis does not fit {name}"
            left = (factors.u * factors.sigma).T.to(weight.dtype)  # (r, d_out)
            self.register_buffer(f"left_{index}", left.contiguous(), persistent=False)
            self.register_buffer(f"right_{index}", factors.v.to(weight.dtype), persistent=False)  # (d_in, r)
        self.to(next(iter(self._linears.values())).weight.device)  # type: ignore[arg-type]
        self._row_matrices: torch.Tensor | None = None  # (B, M, r, r) inside `rows`
        self._whole: int | None = None  # the lane of `use_lane`
        self._handles = [
            linear.register_forward_hook(self._hook(index)) for index, linear in enumerate(self._linears.values())
        ]

    def lane(self, index: int) -> Lane:
        """Lane number `index`."""
        lane = self.lanes[index]
        assert isinstance(lane, Lane)
        return lane

    @contextmanager
    def rows(self, lane_of_row: torch.Tensor) -> Iterator[None]:
        """Inside, row b of every batch is computed with lane `lane_of_row[b]` (B,); R is formed once, on entry."""
        matrices = torch.stack([lane.matrices() for lane in self.lanes])  # type: ignore[operator]  # (L, M, r, r)
        self._row_matrices = matrices.index_select(0, lane_of_row.to(matrices.device))
        try:
            yield
        finally:
            self._row_matrices = None

    def select_rows(self, kept: torch.Tensor) -> None:
        """Inside `rows`: the batch has shrunk to the rows `kept`, in this order."""
        assert self._row_matrices is not None, "select_rows has a meaning inside `rows` only"
        self._row_matrices = self._row_matrices.index_select(0, kept)

    def use_lane(self, index: int | None) -> None:
        """Compute all rows with one lane from now on (None: with the base model)."""
        self._whole = index

    def round(self) -> None:
        """Round every lane's v to its storage type: call it after each optimizer step."""
        for lane in self.lanes:
            lane.round()  # type: ignore[operator]

    def detach(self) -> None:
        """Remove the adapters; the model is as it was before."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """W + U Sigma R V^T of every adapted module for one lane, by parameter name, in the weights' type.

        Built from the untouched base weights each time; for `torch.func.functional_call` or for saving.
        """
        merged = {}
        for module, (name, matrix) in enumerate(zip(self.names, self.lane(index).matrices(), strict=True)):
            left, right = self._factors(module)
            weight = self._linears[name].weight
            assert isinstance(weight, torch.Tensor)
            update = left.float().T @ matrix @ right.float().T  # (d_out, d_in)
            merged[f"{name}.weight"] = (weight.float() + update).to(weight.dtype)
        return merged

    def _factors(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return getattr(self, f"left_{index}"), getattr(self, f"right_{index}")

    def _hook(self, index: int):  # type: ignore[no-untyped-def]  # the hook type of torch is private
        def add_update(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            if self._row_matrices is None and self._whole is None:
                return output
            left, right = self._factors(index)
            reduced = (inputs[0] @ right).float()  # (B, T, r)
            if self._row_matrices is not None:
                mixed = torch.bmm(reduced, self._row_matrices[:, index].transpose(1, 2))
            else:
                assert self._whole is not None
                lane = self.lane(self._whole)
                matrix = torch.einsum("u,urs->rs", lane.v[lane.group_of[index]], lane.projections[index])
                mixed = reduced @ matrix.T
            shape = output.shape
            flat = torch.addmm(output.reshape(-1, shape[-1]), mixed.to(left.dtype).reshape(-1, self.rank), left)
            return flat.view(shape)

        return add_update
