"""TinyLoRA: W' = W + U Sigma (sum_i v_i P_i) V^T, for many lanes in one model (paper section 3, equation of TinyLoRA).

Only v is trained. U, Sigma, V are the frozen basis, P (u, r, r) is a fixed random tensor of each module, normal with
standard deviation 1/sqrt(r) (the paper does not say; PEFT does the same), drawn from a named stream and never stored.
v starts at zero, so the adapted model is at first exactly the base model. Sigma stands on the left, as in the paper
(PEFT puts its square root on each side, which is another update). LoRA-XS trains R itself, one for each group.

The base weights are never touched: each adapted linear map gets a forward of its own, which adds the update,

    y = x W^T + ((x V) R[lane]^T) (U Sigma)^T          R[lane, m] = sum_i v[lane, group(m), i] P[m, i]

so rows of different lanes share one batch and differ in r x r matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tinylora.adapters.base import MapAdapters, bias_of
from tinylora.adapters.basis import Basis
from tinylora.adapters.lane import Lane, LaneSpec
from tinylora.adapters.mixing import RowMatrices, Slots, mix, outer
from tinylora.adapters.noise import torch_stream
from tinylora.adapters.tying import Groups, freedom, tie
from tinylora.models.maps import weight_of
from tinylora.settings.config import RECIPE, Adapter

NESTED = 16  # projections of a module are drawn so many at a time, always whole: the first are the same for every u


def projection(seed: int, module: str, u: int, rank: int, recipe: int = RECIPE) -> torch.Tensor:
    """P (u, r, r) of one module: normal, standard deviation 1/sqrt(r), a pure function of the arguments.

    From recipe 3 on they are nested in u: the first 13 of u=120 are those of u=13. Adapter files hold v and not P, so
    the P of every recipe there was stays here.
    """
    return (_PROJECTIONS[recipe](seed, module, u, rank) / math.sqrt(rank)).float()


# Both draw in fp64: PyTorch then draws the same numbers on every processor. In fp32 the low bits depend on its vector
# unit.
def _drawn_by_1(seed: int, module: str, u: int, rank: int) -> torch.Tensor:
    generator = torch_stream(seed, "projection", module, u, rank)
    return torch.randn(u, rank, rank, generator=generator, dtype=torch.float64)


def _drawn_by_3(seed: int, module: str, u: int, rank: int) -> torch.Tensor:
    generator, shape = torch_stream(seed, "projection", module, rank), (NESTED, rank, rank)
    blocks = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(0, u, NESTED)]
    return torch.cat(blocks)[:u]


_PROJECTIONS = {1: _drawn_by_1, 2: _drawn_by_1, 3: _drawn_by_3}  # by recipe


class GroupedLane(Lane):
    """One lane's v (K, values): a row for each of the K groups of modules that share one; zero at first."""

    group_of: torch.Tensor  # (M,)

    def __init__(self, spec: LaneSpec, modules: Sequence[str], values: int) -> None:
        groups = tie(modules, spec.sharing, spec.n_tie)
        super().__init__(spec, torch.zeros(len(groups), values))
        self.groups: Groups = groups
        group_of = torch.empty(len(modules), dtype=torch.long)
        for group, members in enumerate(groups):
            group_of[list(members)] = group
        self.register_buffer("group_of", group_of, persistent=False)


class TinyLane(GroupedLane):
    """One lane's trained v (K, u), with the projections that turn it into R (M, r, r)."""

    projections: torch.Tensor  # (M, u, r, r)

    def __init__(self, spec: LaneSpec, modules: Sequence[str], rank: int) -> None:
        super().__init__(spec, modules, spec.u)
        root, recipe = spec.projection_seed, spec.recipe
        projections = torch.stack([projection(root, name, spec.u, rank, recipe) for name in modules])
        self.register_buffer("projections", projections, persistent=False)

    @property
    def trained_values(self) -> int:
        """Number of trained values, K * u."""
        assert self.v.numel() == len(self.groups) * self.spec.u, "v does not hold one u-vector per group"
        return self.v.numel()

    @property
    def degrees_of_freedom(self) -> int:
        """Rank of the map from v to R (M, r, r)."""
        return freedom(self.groups, self.spec.u, self.projections.shape[-1])

    def matrices(self) -> torch.Tensor:
        """R (M, r, r) of all modules, fp32, differentiable in v."""
        return torch.einsum("mu,murs->mrs", self.v[self.group_of], self.projections)

    def matrix(self, module: int) -> torch.Tensor:
        """R (r, r) of one module."""
        return torch.einsum("u,urs->rs", self.v[self.group_of[module]], self.projections[module])


class XsLane(GroupedLane):
    """One lane of LoRA-XS: v (K, r * r) is R itself, of each group of modules."""

    def __init__(self, spec: LaneSpec, modules: Sequence[str], rank: int) -> None:
        super().__init__(spec, modules, rank * rank)
        self.rank = rank

    def matrices(self) -> torch.Tensor:
        """R (M, r, r) of all modules, fp32, differentiable in v."""
        return self.v[self.group_of].view(-1, self.rank, self.rank)

    def matrix(self, module: int) -> torch.Tensor:
        """R (r, r) of one module."""
        return self.v[self.group_of[module]].view(self.rank, self.rank)


class AdaptedLinear(torch.autograd.Function):
    """y = x W^T + b + ((x V) R^T) (U Sigma)^T with a gradient for x and R alone: W, U Sigma and V are frozen.

    As one function rather than four, it keeps nothing of x but x V (A, T, r), adds the update in place, and gives one
    gradient for x where autograd would sum two.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x, weight, bias, left, right, matrix, slots
    ) -> torch.Tensor:
        """x (A, T, d_in), W (d_out, d_in), left (r, d_out), right (r, d_in); matrix and slots as in `mix`."""
        output, reduced = _adapted(x, weight, bias, left, right, matrix, slots)
        ctx.save_for_backward(weight, left, right, matrix, reduced)
        ctx.slots = slots
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """The gradients of x and of R."""
        weight, left, right, matrix, reduced = ctx.saved_tensors
        of_mixed = functional.linear(gradient, left).float()  # (A, T, r)
        of_matrix = outer(of_mixed, reduced, ctx.slots)  # shape of `matrix`
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ weight
            of_reduced = mix(of_mixed, matrix, ctx.slots).to(right.dtype)
            of_x.view(-1, of_x.shape[-1]).addmm_(of_reduced.view(-1, len(right)), right)
        return of_x, None, None, None, None, of_matrix, None


def _adapted(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    left: torch.Tensor,
    right: torch.Tensor,
    matrix: torch.Tensor,
    slots: Slots | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of an adapted linear map (A, T, d_out), and x V (A, T, r) in fp32."""
    output = functional.linear(x, weight, bias)
    reduced = functional.linear(x, right).float()
    mixed = mix(reduced, matrix.transpose(1, 2), slots).to(left.dtype)
    output.view(-1, output.shape[-1]).addmm_(mixed.view(-1, len(left)), left)
    return output, reduced


class TinyLora(MapAdapters):
    """The TinyLoRA or LoRA-XS adapters of L lanes on one frozen model; `use_lane` is for loops that know one lane."""

    def __init__(self, model: nn.Module, basis: Basis, specs: Sequence[LaneSpec]) -> None:
        kinds = {Adapter.tinylora: TinyLane, Adapter.lora_xs: XsLane}
        names = list(basis.factors)
        super().__init__(model, names, basis.rank, [kinds[spec.kind](spec, names, basis.rank) for spec in specs])
        self.basis = basis
        self._whole: int | None = None  # the lane of `use_lane`
        for index, (name, factors) in enumerate(basis.factors.items()):
            weight = weight_of(self._maps[name])
            assert weight.shape == (len(factors.left), len(factors.right)), f"the basis does not fit {name}"
            # Stored as r rows of length d: products run several times faster than with d rows of length r.
            left, right = (factors.left * factors.sigma).T, factors.right.T  # (r, d_out), (r, d_in)
            self.register_buffer(f"left_{index}", left.to(weight.dtype).contiguous(), persistent=False)
            self.register_buffer(f"right_{index}", right.to(weight.dtype).contiguous(), persistent=False)
        self._take_place()

    def _formed(self) -> tuple[torch.Tensor, ...]:
        """R (L, M, r, r) of all lanes and modules, fp32."""
        return (torch.stack([lane.matrices() for lane in self.lanes]),)  # type: ignore[operator]

    def _assign(self, lane_of_row: torch.Tensor, leaves: Sequence[torch.Tensor]) -> RowMatrices:
        """Take the R of the rows from `leaves`, which hold R (L, M, r, r)."""
        (formed,) = leaves
        chosen = RowMatrices.of(formed, lane_of_row)
        self._rows = chosen.matrices.unbind(1), chosen.slots
        return chosen

    @torch.no_grad()
    def low_rank(self, index: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """One lane's update as B^T (r, d_out) and A (r, d_in) with delta W = B A: B = U Sigma R, A = V^T; fp32."""
        lane = self.lane(index)
        assert isinstance(lane, TinyLane | XsLane)
        found = {}
        for module, (name, matrix) in enumerate(zip(self.names, lane.matrices(), strict=True)):
            left, right = self.factors(module)
            found[name] = (matrix.T @ left.float(), right.float())
        return found

    def use_lane(self, index: int | None) -> None:
        """From now on, compute with this lane every row to which `rows` gives none (None: with the base model)."""
        self._whole = index

    @contextmanager
    def base(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """Inside, all rows see the base model, those of `use_lane` too."""
        whole, self._whole = self._whole, None
        try:
            with super().base() as parameters:
                yield parameters
        finally:
            self._whole = whole

    def factors(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(U Sigma)^T (r, d_out) and V^T (r, d_in) of module number `index`, in the weights' type."""
        return getattr(self, f"left_{index}"), getattr(self, f"right_{index}")

    def _forward_of(self, index: int, module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:

        def forward(x: torch.Tensor) -> torch.Tensor:
            weight, bias, slots = weight_of(module), bias_of(module), None
            if self._rows is None and self._whole is None:
                return functional.linear(x, weight, bias)
            rows = x if x.ndim == 3 else x.reshape(self._count, -1, x.shape[-1])  # some families flatten rows
            if self._rows is not None:
                matrices, slots = self._rows
                matrix = matrices[index]
            else:
                lane = self.lane(self._whole)  # type: ignore[arg-type]
                assert isinstance(lane, TinyLane | XsLane)
                matrix = lane.matrix(index).expand(len(rows), -1, -1)
            arguments = (rows, weight, bias, *self.factors(index), matrix, slots)
            if torch.is_grad_enabled():
                output: torch.Tensor = AdaptedLinear.apply(*arguments)  # type: ignore[no-untyped-call]
            else:
                output = _adapted(*arguments)[0]
            return output if x.ndim == 3 else output.view(*x.shape[:-1], -1)

        return forward
