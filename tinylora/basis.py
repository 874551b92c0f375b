"""The frozen basis: the truncated SVD U, Sigma, V of every adapted weight, computed once per model and cached.

The fast solver is randomised subspace iteration with a check: with residual e of the found triplets and gap g between
the r-th and the next singular value, the found subspace is within an angle of about e / g of the true one
(Davis-Kahan). Where that bound is not below `ANGLE`, which includes every spectrum without a gap, the exact
decomposition is used instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tinylora.config import Solver
from tinylora.errors import UsageError
from tinylora.seeds import torch_stream

ANGLE = 1e-4  # largest accepted bound on the angle (radians) between the fast and the exact subspace
OVERSAMPLING = 8  # extra columns of the subspace iteration
ITERATIONS = 8  # of the subspace iteration
SMALL = 512  # matrices with a side up to this are decomposed exactly: it costs milliseconds


@dataclass(frozen=True)
class Factors:
    """Truncated SVD of one weight: W is close to u @ diag(sigma) @ v.T. All fp32, on the CPU."""

    u: torch.Tensor  # (d_out, r)
    sigma: torch.Tensor  # (r,)
    v: torch.Tensor  # (d_in, r)


@dataclass(frozen=True)
class Basis:
    """The factors of every adapted module, by name, in depth order."""

    rank: int
    factors: Mapping[str, Factors]

    @property
    def digest(self) -> str:
        """16 hex digits over all factors: two runs with one digest used the same basis."""
        state = hashlib.sha256()
        for name, factors in self.factors.items():
            state.update(name.encode())
            for tensor in (factors.u, factors.sigma, factors.v):
                state.update(tensor.contiguous().numpy().tobytes())
        return state.hexdigest()[:16]


def truncated_svd(weight: torch.Tensor, rank: int, solver: Solver) -> Factors:
    """The top `rank` singular triplets of a weight (d_out, d_in), with signs fixed so that they are repeatable.

    Raises UsageError where the weight has fewer than `rank` singular values.
    """
    if rank > min(weight.shape):
        raise UsageError(
            f"rank={rank} for a weight of {tuple(weight.shape)}",
            "the rank of the basis is at most the smaller side of every adapted weight",
            f"give rank={min(weight.shape)} or less",
        )
    matrix = weight.detach().float()
    factors = _fast(matrix, rank) if solver is Solver.fast and min(matrix.shape) > SMALL else None
    u, sigma, v = factors or _exact(matrix, rank)
    sign = torch.sign(u.gather(0, u.abs().argmax(0, keepdim=True)))  # (1, r): the largest entry of u is positive
    return Factors((u * sign).cpu().contiguous(), sigma.cpu().contiguous(), (v * sign).cpu().contiguous())


Triplets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _exact(matrix: torch.Tensor, rank: int) -> Triplets:
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], sigma[:rank], vh[:rank].T


def _fast(matrix: torch.Tensor, rank: int) -> Triplets | None:
    """Randomised subspace iteration; None where its own check does not show the subspace to be right."""
    width = rank + OVERSAMPLING
    start = torch.randn(matrix.shape[1], width, generator=torch_stream(0, "basis", *matrix.shape))
    v = start.to(matrix.device)
    for _ in range(ITERATIONS):
        u, _ = torch.linalg.qr(matrix @ v)
        v, _ = torch.linalg.qr(matrix.T @ u)
    small_u, sigma, small_vh = torch.linalg.svd(u.T @ (matrix @ v))
    u, v = u @ small_u[:, :rank], v @ small_vh[:rank].T
    top = sigma[:rank]
    residual = torch.maximum(torch.linalg.norm(matrix @ v - u * top), torch.linalg.norm(matrix.T @ u - v * top))
    gap = sigma[rank - 1] - sigma[rank]
    return (u, top, v) if residual <= ANGLE * gap else None


def compute_basis(
    weights: Mapping[str, torch.Tensor], rank: int, solver: Solver, progress: Callable[[str], None] = lambda _: None
) -> Basis:
    """The basis of named weights (d_out, d_in); `progress` is told what is being decomposed."""
    factors = {}
    for index, (name, weight) in enumerate(weights.items()):
        if weight.numel() > SMALL**2:
            progress(f"basis: {index + 1} of {len(weights)} weights")
        factors[name] = truncated_svd(weight, rank, solver)
    return Basis(rank, factors)


def cached_basis(
    weights: Mapping[str, torch.Tensor],
    rank: int,
    solver: Solver,
    cache: Path,
    model_digest: str,
    progress: Callable[[str], None] = lambda _: None,
) -> Basis:
    """The basis from the cache folder, or computed and put there (atomically). A damaged file is computed anew."""
    path = cache / f"{model_digest}-r{rank}-{solver.value}.safetensors"
    if path.exists() and (basis := _read(path, rank, list(weights))) is not None:
        return basis
    basis = compute_basis(weights, rank, solver, progress)
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    tensors: dict[str, torch.Tensor] = {}
    for name, factors in basis.factors.items():
        tensors |= {f"{name}.u": factors.u, f"{name}.sigma": factors.sigma, f"{name}.v": factors.v}
    save_file(tensors, part)
    os.replace(part, path)
    return basis


def _read(path: Path, rank: int, names: list[str]) -> Basis | None:
    try:
        tensors = load_file(path)
        return Basis(rank, {n: Factors(tensors[f"{n}.u"], tensors[f"{n}.sigma"], tensors[f"{n}.v"]) for n in names})
    except (SafetensorError, KeyError):
        return None
