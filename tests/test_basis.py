"""The truncated SVD: against the full one, its check, its cache."""

from pathlib import Path

import pytest
import torch

from tinylora import basis as basis_module
from tinylora.basis import cached_basis, compute_basis, truncated_svd
from tinylora.config import Solver
from tinylora.errors import UsageError


def matrix(d_out: int, d_in: int, spectrum: torch.Tensor) -> torch.Tensor:
    """A weight with the given leading singular values over a small noise."""
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(d_out, len(spectrum), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(d_in, len(spectrum), generator=generator))
    return left * spectrum @ right.T + 1e-3 * torch.randn(d_out, d_in, generator=generator)


def largest_angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest principal angle between two column spaces, from the sine: the cosine loses small angles."""
    a, b = a.double(), b.double()
    return float(torch.linalg.matrix_norm(a - b @ (b.T @ a), 2).clamp(max=1).asin())


@pytest.mark.parametrize("shape", [(600, 900), (900, 600)])
def test_fast_subspace_is_the_exact_one(shape: tuple[int, int]) -> None:
    weight = matrix(*shape, torch.tensor([9.0, 7.0, 5.0, 4.0, 3.0]))
    fast, exact = truncated_svd(weight, 2, Solver.fast), truncated_svd(weight, 2, Solver.exact)
    assert basis_module._fast(weight, 2) is not None, "the fast path was not taken"
    assert largest_angle(fast.u, exact.u) < 1e-4
    assert largest_angle(fast.v, exact.v) < 1e-4
    torch.testing.assert_close(fast.u, exact.u, atol=1e-4, rtol=0)  # signs and order too
    torch.testing.assert_close(fast.sigma, exact.sigma)


def test_without_a_gap_the_exact_solver_is_used() -> None:
    weight = matrix(600, 600, torch.tensor([5.0, 3.0, 3.0, 3.0]))
    assert basis_module._fast(weight, 2) is None
    exact = truncated_svd(weight, 2, Solver.exact)
    torch.testing.assert_close(truncated_svd(weight, 2, Solver.fast).sigma, exact.sigma)


def test_factors_are_orthonormal_and_rebuild_a_low_rank_weight() -> None:
    weight = torch.outer(torch.arange(1.0, 7), torch.arange(1.0, 5)) + torch.eye(6, 4)
    factors = truncated_svd(weight, 4, Solver.exact)
    torch.testing.assert_close(factors.u.T @ factors.u, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(factors.u * factors.sigma @ factors.v.T, weight)


def test_rank_beyond_the_weight_is_refused() -> None:
    with pytest.raises(UsageError, match="rank=5"):
        truncated_svd(torch.ones(6, 4), 5, Solver.exact)


def test_cache_is_read_without_a_decomposition_and_a_damaged_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"a": torch.randn(8, 6), "b": torch.randn(6, 8)}
    first = cached_basis(weights, 2, Solver.fast, tmp_path, "digest")
    with monkeypatch.context() as patched:
        patched.setattr(basis_module, "truncated_svd", lambda *_: pytest.fail("the cache was not used"))
        assert cached_basis(weights, 2, Solver.fast, tmp_path, "digest").digest == first.digest
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert cached_basis(weights, 2, Solver.fast, tmp_path, "digest").digest == first.digest
    assert compute_basis(weights, 2, Solver.exact).digest == first.digest
