"""The frozen basis: the truncated SVD U, Sigma, V of every adapted weight, computed once per model and cached.

The fast solver searches a block Krylov space, which grows until a bound shows each of the top r singular vectors, left
and right, to be within `ANGLE` of the exact one. Each vector and not their space alone, because v is trained in the
coordinates of the vectors: where two of the top r values agree, another machine would find other ones in the same
space. So all gaps from the first to the (r+1)-th value have to be resolved, which the last step, in fp64, does down to
relative gaps of 1e-6; the fp32 SVD is itself off by more than `ANGLE` where they are below 1e-3 or so. A weight with
equal values, or whose search exceeds its budget, gets the exact decomposition: no solver can do more for it.

The bound rests on residuals of the found vectors, and cannot be wrong but by a singular vector that is all but
orthogonal to the random start. One that starts a million times shorter there than usual is still found, and even a
thousand times shorter has a chance below 1e-40, as the start has 16 columns or more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from tinylora.adapters.noise import torch_stream
from tinylora.settings.config import Solver
from tinylora.settings.errors import UsageError

ANGLE = 1e-4  # largest accepted angle (radians) between a found and the exact space
OVERSAMPLING = 8  # least number of columns of the search beyond the rank
STEPS = 48  # of the search at most: a quarter of the time of a large exact decomposition, or less
CHUNK = 1024  # rows that are converted to fp64 at a time
SMALL = 256  # matrices with a side up to this are decomposed exactly: the search would not be faster
VERSION = 2  # of the factors: to be raised where a change of this file changes those of any weight


@dataclass(frozen=True)
class Factors:
    """Truncated SVD of one weight: W is close to left @ diag(sigma) @ right.T. All fp32, on the CPU."""

    left: torch.Tensor  # U (d_out, r)
    sigma: torch.Tensor  # Sigma (r,), falling
    right: torch.Tensor  # V (d_in, r)


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
            for tensor in (factors.left, factors.sigma, factors.right):
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
    if min(matrix.shape) <= SMALL:
        u, sigma, v = _exact(matrix, rank)
    else:
        wide = matrix.shape[0] < matrix.shape[1]
        tall = matrix.T if wide else matrix  # LAPACK is several times slower on a wide matrix, the search a little
        u, sigma, v = (_fast(tall, rank) if solver is Solver.fast else None) or _exact(tall, rank)
        u, v = (v, u) if wide else (u, v)
    sign = torch.sign(u.gather(0, u.abs().argmax(0, keepdim=True)))  # (1, r): the largest entry of u is positive
    return Factors((u * sign).cpu().contiguous(), sigma.cpu().contiguous(), (v * sign).cpu().contiguous())


Triplets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # (m, r), (r,), (n, r)


def _exact(matrix: torch.Tensor, rank: int) -> Triplets:
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], sigma[:rank], vh[:rank].T


def _fast(matrix: torch.Tensor, rank: int) -> Triplets | None:
    """Block Golub-Kahan-Lanczos search of a matrix (m, n), m >= n; None where it is not shown to be right in time.

    The vectors are rows, so that a found block is one piece of memory: left (k, m) and right (k, n), orthonormal, with
    core = left @ matrix @ right.T (k, k) in fp64. The singular triplets of the core are the estimates.
    """
    m, n = matrix.shape
    width = 8 * math.ceil((rank + OVERSAMPLING) / 8)  # products with other widths are slower
    if (steps := min(STEPS, 2 * n // (3 * width))) < 2:
        return None
    left, right = matrix.new_empty(steps * width, m), matrix.new_empty((steps + 1) * width, n)
    core = matrix.new_zeros(steps * width, steps * width, dtype=torch.float64)
    start = torch.randn(width, n, generator=torch_stream(0, "basis", *matrix.shape)).to(matrix.device)
    right[:width], _, _ = _orthonormal(start, right[:0])
    due = 2
    for step in range(1, steps + 1):
        old, new = slice(0, (step - 1) * width), slice((step - 1) * width, step * width)
        left[new], above, corner = _orthonormal((matrix @ right[new].T).T, left[old])
        core[old, new], core[new, new] = above.T, corner.T
        right[new.stop : new.stop + width], _, rest = _orthonormal((matrix.T @ left[new].T).T, right[: new.stop])
        if step < due:
            continue
        due = step + 1 + step // 4
        found = core[: new.stop, : new.stop]
        values, vectors = (x.flip(-1) for x in torch.linalg.eigh(found @ found.T))
        values, vectors, beyond = values[:width], vectors[:, :width], float(values[width])
        outside = torch.linalg.norm(rest.double().T @ vectors[new], dim=0) * values.clamp(min=0).sqrt()
        if _bound(rank, values, torch.zeros_like(core[:width, :width]), outside, beyond) <= ANGLE:
            triplets = _checked(matrix, vectors.T @ found @ right[: new.stop].double(), rank, beyond)
            if triplets is not None:
                return triplets
        if (outside <= torch.finfo(torch.float32).eps * values)[: rank + 1].all():
            break  # found as well as fp32 can, and yet there is no gap
    return None


def _orthonormal(rows: torch.Tensor, space: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Orthonormal `basis` (b, n) of what `space` (k, n) lacks; rows = coefficients @ space + corner @ basis."""
    basis, corner = rows, torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    coefficients = rows.new_zeros(len(rows), len(space))
    for _ in range(2):  # the second pass removes what rounding left of the first, also where little else was left
        part = basis @ space.T
        columns, upper = torch.linalg.qr((basis - part @ space).T)
        basis, coefficients, corner = columns.T, coefficients + corner @ part, corner @ upper.T
    return basis, coefficients, corner


def _checked(matrix: torch.Tensor, right: torch.Tensor, rank: int, beyond: float) -> Triplets | None:
    """The triplets in the span of `right` (b, n), all in fp64 as rounding is divided by gaps; None: bound too large."""
    right = torch.linalg.qr(right.T)[0].T
    left, image = right.new_empty(len(right), len(matrix)), torch.zeros_like(right)  # right @ matrix.T, left @ matrix
    scratch = torch.empty_like(matrix[:CHUNK], dtype=torch.float64)
    for rows, part in zip(matrix.split(CHUNK), left.split(CHUNK, 1), strict=True):
        exact = scratch[: len(rows)].copy_(rows)
        image += part.copy_(right @ exact.T) @ exact
    values, vectors = (x.flip(-1) for x in torch.linalg.eigh(left @ left.T))
    left, right, image = vectors.T @ left, vectors.T @ right, vectors.T @ image
    residual = image - values[:, None] * right
    inside = residual @ right.T  # (b, b): zero but for rounding
    outside = torch.linalg.norm(residual - inside @ right, dim=1)
    if not _bound(rank, values, inside, outside, beyond) <= ANGLE:
        return None
    sigma = values[:rank].sqrt()
    return (left[:rank].T / sigma).float(), sigma.float(), right[:rank].T.float()


def _bound(rank: int, values: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor, beyond: float) -> float:
    """Bound on the angles between the found and the exact vectors: the root of the sum of their squares over k <= r.

    H = W^T W, the found x_j (j <= b) are orthonormal with x_j^T H x_j = `values` (b,), and the residual of x_k,
    H x_k - value_k x_k, is `inside` (b, b) along the other x_j and of norm `outside` (b,) beyond them. In the exact
    vector x_k + sum_j near_kj x_j + far_k, with far_k orthogonal to all x,
        (value_k - H) far_k = outside_k + sum_j outside_j near_kj
        (value_k - value_j) near_kj = inside_kj + outside_j far_k.
    So an outside residual is divided by the large distance from value_k to H beyond all x, and only what couples back
    from there by the small gap between two values. What is clearly above `beyond`, the search's next value, was found
    no later than the x_k, so half that distance is safe. In the left vectors, W x_k, near_kj is longer by
    sqrt(value_j / value_k).
    """
    gaps = values[:rank, None] - values  # (r, b)
    gaps.diagonal().fill_(math.inf)
    hidden = (outside**2 / gaps).clamp(min=0).sum(1)  # (r,): how much larger what x_j stands for may be
    room = ((values[:rank] - beyond) / 2 - hidden).clamp(min=0)
    gaps, inside = gaps.abs(), inside[:rank].abs()
    far = (outside[:rank] + (outside * inside / gaps).sum(1)) / room
    near = (inside + outside * far[:, None]) / gaps * (values / values[:rank, None]).clamp(min=1).sqrt()
    return float((far.square().sum() + near.square().sum()).sqrt().nan_to_num(nan=math.inf, posinf=math.inf))


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
