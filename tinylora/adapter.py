"""TinyLoRA: W' = W + U Sigma (sum_i v_i P_i) V^T, for many lanes in one model (paper section 3, equation of TinyLoRA).

Only v is trained. U, Sigma, V are the frozen basis, P (u, r, r) is a fixed random tensor of each module, normal with
standard deviation 1/sqrt(r) (the paper does not say; PEFT does the same), drawn from a named stream and never stored.
v starts at zero, so the adapted model is exactly the base model. Sigma stands on the left, as in the paper (PEFT
splits its square root over both sides: not the same).

The base weights are never touched: each adapted linear map gets a forward of its own, which adds the update,

    y = x W^T + ((x V) R[lane]^T) (U Sigma)^T          R[lane, m] = sum_i v[lane, group(m), i] P[m, i]

so rows of different lanes share one batch and differ in r x r matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tinylora.basis import Basis
from tinylora.config import ALL, Precision, RunConfig, Sharing
from tinylora.errors import UsageError
from tinylora.precision import round_to_stored, stored
from tinylora.seeds import torch_stream
from tinylora.tying import Groups, tie

AssignRows = Callable[[torch.Tensor], torch.Tensor]
"""Gives the rows of the next batches their lanes (B,); returns their R (B, M, r, r)."""


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


class AdaptedLinear(torch.autograd.Function):
    """y = x W^T + b + ((x V) R^T) (U Sigma)^T with a gradient for x and R alone: W, U Sigma and V are frozen.

    As one function rather than four, it keeps nothing of x but x V (B, T, r), adds the update in place, and gives one
    gradient for x where autograd would sum two.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x, weight, bias, left, right, matrix
    ) -> torch.Tensor:
        """x (B, T, d_in), W (d_out, d_in), left (r, d_out), right (r, d_in), matrix: R of each row (B, r, r), fp32."""
        output, reduced = _adapted(x, weight, bias, left, right, matrix)
        ctx.save_for_backward(weight, left, right, matrix, reduced)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """The gradients of x and of R."""
        weight, left, right, matrix, reduced = ctx.saved_tensors
        of_mixed = functional.linear(gradient, left).float()  # (B, T, r)
        of_matrix = torch.bmm(of_mixed.transpose(1, 2), reduced)  # (B, r, r)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ weight
            of_reduced = torch.bmm(of_mixed, matrix).to(right.dtype)
            of_x.view(-1, of_x.shape[-1]).addmm_(of_reduced.view(-1, len(right)), right)
        return of_x, None, None, None, None, of_matrix


def _adapted(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    left: torch.Tensor,
    right: torch.Tensor,
    matrix: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of an adapted linear map (B, T, d_out), and x V (B, T, r) in fp32."""
    output = functional.linear(x, weight, bias)
    reduced = functional.linear(x, right).float()
    mixed = torch.bmm(reduced, matrix.transpose(1, 2)).to(left.dtype)
    output.view(-1, output.shape[-1]).addmm_(mixed.view(-1, len(left)), left)
    return output, reduced


def _require_plain(name: str, linear: nn.Module) -> None:
    """Raise UsageError where an adapter cannot take the place of a module's forward."""
    if type(linear).forward is not nn.Linear.forward or "forward" in vars(linear):
        raise UsageError(
            f"the linear map {name}",
            "an adapter takes the place of its forward, and another adapter or a special kind of layer has done so",
            "detach the adapter that is there, or load the model unquantised and on one device",
        )


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
        for name, linear in self._linears.items():
            _require_plain(name, linear)
        for index, (name, factors) in enumerate(basis.factors.items()):
            weight = self._linears[name].weight
            assert isinstance(weight, torch.Tensor)
            assert weight.shape == (len(factors.u), len(factors.v)), f"the basis does not fit {name}"
            # Rows of length d: the products with r columns run several times faster than with columns of length d.
            left, right = (factors.u * factors.sigma).T, factors.v.T  # (r, d_out), (r, d_in)
            self.register_buffer(f"left_{index}", left.to(weight.dtype).contiguous(), persistent=False)
            self.register_buffer(f"right_{index}", right.to(weight.dtype).contiguous(), persistent=False)
        self.to(next(iter(self._linears.values())).weight.device)  # type: ignore[arg-type]
        self._row_matrices: Sequence[torch.Tensor] | None = None  # inside `rows`: (B, r, r) for each module
        self._whole: int | None = None  # the lane of `use_lane`
        for index, linear in enumerate(self._linears.values()):
            linear.forward = self._forward_of(index, linear)

    def lane(self, index: int) -> Lane:
        """Lane number `index`."""
        lane = self.lanes[index]
        assert isinstance(lane, Lane)
        return lane

    def matrices(self) -> torch.Tensor:
        """R (L, M, r, r) of all lanes and modules, fp32, differentiable in every v."""
        return torch.stack([lane.matrices() for lane in self.lanes])  # type: ignore[operator]

    @contextmanager
    def rows(self, lane_of_row: torch.Tensor, matrices: torch.Tensor | None = None) -> Iterator[AssignRows]:
        """Inside, row b of every batch is computed with lane `lane_of_row[b]` (B,).

        R is formed once, on entry, unless it is given as `matrices` (L, M, r, r). The function that the context gives
        assigns other lanes, for batches of other rows.
        """
        formed = self.matrices() if matrices is None else matrices

        def assign(lane_of_row: torch.Tensor) -> torch.Tensor:
            chosen = formed.index_select(0, lane_of_row.to(formed.device))
            self._row_matrices = chosen.unbind(1)
            return chosen

        assign(lane_of_row)
        try:
            yield assign
        finally:
            self._row_matrices = None

    def use_lane(self, index: int | None) -> None:
        """Compute all rows with one lane from now on (None: with the base model)."""
        self._whole = index

    def round(self) -> None:
        """Round every lane's v to its storage type: call it after each optimizer step."""
        for lane in self.lanes:
            lane.round()  # type: ignore[operator]

    def detach(self) -> None:
        """Remove the adapters; the model is as it was before."""
        for linear in self._linears.values():
            del linear.forward

    @torch.no_grad()
    def merged_weights(self, index: int) -> dict[str, torch.Tensor]:
        """W + U Sigma R V^T of every adapted module for one lane, by parameter name, in the weights' type.

        Built from the untouched base weights each time; for `torch.func.functional_call` or for saving.
        """
        merged = {}
        for module, (name, matrix) in enumerate(zip(self.names, self.lane(index).matrices(), strict=True)):
            left, right = self.factors(module)
            weight = self._linears[name].weight
            assert isinstance(weight, torch.Tensor)
            update = left.float().T @ matrix @ right.float()  # (d_out, d_in)
            merged[f"{name}.weight"] = (weight.float() + update).to(weight.dtype)
        return merged

    def factors(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(U Sigma)^T (r, d_out) and V^T (r, d_in) of module number `index`, in the weights' type."""
        return getattr(self, f"left_{index}"), getattr(self, f"right_{index}")

    def _matrix(self, index: int, rows: int) -> torch.Tensor | None:
        """R of one module for each row of a batch (B, r, r); None where the base model is asked for."""
        if self._row_matrices is not None:
            return self._row_matrices[index]
        if self._whole is None:
            return None
        lane = self.lane(self._whole)
        matrix = torch.einsum("u,urs->rs", lane.v[lane.group_of[index]], lane.projections[index])
        return matrix.expand(rows, -1, -1)

    def _forward_of(self, index: int, linear: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The forward of one linear map with its adapter."""
        assert isinstance(linear, nn.Linear)

        def forward(x: torch.Tensor) -> torch.Tensor:
            matrix = self._matrix(index, len(x))
            if matrix is None:
                return functional.linear(x, linear.weight, linear.bias)
            arguments = (x, linear.weight, linear.bias, *self.factors(index), matrix)
            if torch.is_grad_enabled():
                output: torch.Tensor = AdaptedLinear.apply(*arguments)  # type: ignore[no-untyped-call]
                return output
            return _adapted(*arguments)[0]

        return forward
