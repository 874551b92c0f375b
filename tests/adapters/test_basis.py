"""The truncated SVD: against the full one in fp64, its bound, when it falls back, its cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tinylora.adapters import basis as basis_module
from tinylora.adapters import basis_cache
from tinylora.adapters.basis import Factors, compute_basis, truncated_svd
from tinylora.adapters.basis_cache import cached_basis
from tinylora.adapters.noise import torch_stream
from tinylora.settings.config import Solver
from tinylora.settings.errors import UsageError

SHAPES = [(700, 500), (500, 700)]


def matrix(shape: tuple[int, int], values: list[float], right: torch.Tensor | None = None) -> torch.Tensor:
    """A weight with exactly these leading singular values (and right vectors), over noise of norm 0.5 at most."""
    generator = torch.Generator().manual_seed(0)
    normal = [torch.randn(side, len(values), generator=generator, dtype=torch.float64) for side in shape]
    u, v = torch.linalg.qr(normal[0])[0], torch.linalg.qr(normal[1])[0] if right is None else right
    noise = 1e-2 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    noise = noise - u @ (u.T @ noise)
    noise = noise - noise @ v @ v.T
    return ((u * torch.tensor(values, dtype=torch.float64)) @ v.T + noise).float()


def largest_angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest principal angle between two column spaces, from the sine: the cosine loses small angles."""
    a, b = a.double(), b.double()
    return float(torch.linalg.matrix_norm(a - b @ (b.T @ a), 2).clamp(max=1).asin())


def assert_right(found: Factors, weight: torch.Tensor) -> None:
    """The spaces and each single vector, left and right, and the values are those of the SVD in fp64."""
    u, sigma, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    rank = len(found.sigma)
    for have, want in ((found.left, u[:, :rank]), (found.right, vh[:rank].T)):
        assert largest_angle(have, want) <= 1e-4
        assert max(largest_angle(have[:, [k]], want[:, [k]]) for k in range(rank)) <= 1e-4
        torch.testing.assert_close(have.T @ have, torch.eye(rank), atol=5e-6, rtol=0)
    torch.testing.assert_close(found.sigma, sigma[:rank].float(), rtol=1e-6, atol=0)
    assert (found.left.T @ weight @ found.right).diagonal().min() > 0, "the signs of u and v do not belong together"


@pytest.fixture
def exact_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Size]]:
    """The shapes that are decomposed exactly."""
    calls, exact = [], basis_module._exact

    def counted(weight: torch.Tensor, rank: int) -> basis_module.Triplets:
        calls.append(weight.shape)
        return exact(weight, rank)

    monkeypatch.setattr(basis_module, "_exact", counted)
    yield calls


SPECTRA = {
    "clear gap": [9.0, 7.0, 5.0, 4.0, 3.0],
    "gap of 1 %": [3.0, 2.0, 1.98, 1.9, 1.8],
    "gap of 0.01 %, below which only the noise is": [0.7, 0.6, 0.59994, 0.55],
    "top values agree to 0.1 %": [3.0, 2.997, 2.0, 1.9],
    "top values agree to 0.0001 %": [3.0, 3.0 - 3e-6, 2.0, 1.9],
    "thirty values within 3 %": [3.0 - 0.003 * k for k in range(30)],
    "one value dwarfs the others": [1000.0, 1.3, 1.2, 1.1],
    "noise alone": [],
}


@pytest.mark.parametrize("shape", SHAPES, ids=["tall", "wide"])
@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA.keys())
def test_fast_solver_finds_each_vector(
    values: list[float], shape: tuple[int, int], exact_calls: list[torch.Size]
) -> None:
    weight = matrix(shape, values)
    found = truncated_svd(weight, 2, Solver.fast)
    assert not exact_calls, "the fast solver gave up"
    assert_right(found, weight)


@pytest.mark.parametrize("rank", [1, 8, 20])
def test_fast_solver_at_other_ranks_and_in_several_chunks(
    rank: int, exact_calls: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basis_module, "CHUNK", 256)
    weight = matrix(SHAPES[0], [4 * 0.95**k for k in range(25)])
    found = truncated_svd(weight, rank, Solver.fast)
    assert not exact_calls, "the fast solver gave up"
    assert_right(found, weight)


@pytest.mark.parametrize("top", [1.85, 2.02, 10.0])
def test_a_vector_that_the_start_nearly_misses_is_found(top: float) -> None:
    shape = SHAPES[0]
    start = torch.randn(16, shape[1], generator=torch_stream(0, "basis", *shape)).double()
    missed = torch.randn(shape[1], 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    missed -= (1 - 1e-4) * torch.linalg.pinv(start) @ (start @ missed)
    others = torch.randn(shape[1], 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weight = matrix(shape, [top, 2.0, 1.9, 1.8], torch.linalg.qr(torch.cat([missed, others], 1))[0])
    *_, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    lengths = torch.linalg.norm(start @ vh[:4].T, dim=0)
    assert lengths.min() < 1e-3 * lengths.max(), "the start misses no vector of this weight"
    assert_right(truncated_svd(weight, 2, Solver.fast), weight)


@pytest.mark.parametrize("rank", [1, 2], ids=["tied across the rank", "tied within the rank"])
def test_without_a_gap_the_exact_solver_is_used(rank: int, exact_calls: list[torch.Size]) -> None:
    weight = torch.block_diag(*[matrix((350, 300), [3.0, 2.0, 1.0])] * 2)  # each value twice, to the last bit
    found = truncated_svd(weight, rank, Solver.fast)
    assert exact_calls == [weight.shape]
    torch.testing.assert_close(found.sigma, torch.full((rank,), 3.0))
    torch.testing.assert_close(weight @ found.right, found.left * found.sigma, atol=1e-5, rtol=0)
    torch.testing.assert_close(weight.T @ found.left, found.right * found.sigma, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weight", [torch.zeros(300, 400), torch.eye(400, 300), torch.ones(300, 400)])
def test_degenerate_weights_get_an_answer(weight: torch.Tensor) -> None:
    found = truncated_svd(weight, 2, Solver.fast)
    torch.testing.assert_close(found.left.T @ found.left, torch.eye(2), atol=1e-4, rtol=0)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    torch.testing.assert_close(weight @ found.right, found.left * found.sigma, atol=1e-5 * norm, rtol=0)


def test_beyond_its_budget_the_search_gives_way(monkeypatch: pytest.MonkeyPatch, exact_calls: list[torch.Size]) -> None:
    weight = matrix(SHAPES[0], SPECTRA["gap of 1 %"])
    monkeypatch.setattr(basis_module, "STEPS", 3)
    assert_right(truncated_svd(weight, 1, Solver.fast), weight)
    assert exact_calls == [weight.shape]


NONE = [[0.0, 0.0], [0.0, 0.0]]
HARD = {  # rank, values, inside, residuals along the rest, value of the rest
    "outside residual": (1, [2.0, 1.5], NONE, [[1e-3, 0.0]], 1.0),
    "inside residual": (1, [2.0, 1.9], [[0.0, 1e-4], [1e-4, 0.0]], [[0.0, 0.0]], 1.0),
    "coupling over a small gap": (1, [2.0, 1.999], NONE, [[1e-4, 1e-2]], 1.0),
    "neighbour that stands for a larger value": (1, [2.0, 1.9], NONE, [[1e-4, 0.25]], 1.0),
    "residual along a far larger value": (2, [1e4, 1.0], [[0.0, 0.5], [0.5, 0.0]], [[0.0, 0.0]], 0.5),
}


@pytest.mark.parametrize("case", HARD.values(), ids=HARD.keys())
def test_bound_is_no_less_and_little_more_than_the_angle(case: tuple[int, list, list, list, float]) -> None:
    """H is given in the coordinates of the found vectors and the rest; each term of the bound decides one case."""
    rank = case[0]
    values, inside, residual, rest = (torch.tensor(part, dtype=torch.float64) for part in case[1:])
    upper = torch.cat([values.diag() + inside, residual.T], 1)
    squares, exact = torch.linalg.eigh(torch.cat([upper, torch.cat([residual, rest.view(1, 1)], 1)]))
    exact = exact.flip(-1)
    weight = exact * squares.flip(-1).sqrt() @ exact.T  # W^T W = H, and its left vectors are its right ones
    found = [torch.eye(len(weight), rank, dtype=torch.float64), torch.nn.functional.normalize(weight[:, :rank], dim=0)]
    angles = [[largest_angle(side[:, [k]], exact[:, [k]]) for k in range(rank)] for side in found]
    actual = float(torch.tensor(angles).norm(dim=1).max())
    beyond = 2 * float(rest) - float(values[rank - 1])  # so that half the distance to it is all of it to the rest
    bound = basis_module._bound(rank, values, inside, torch.linalg.norm(residual, dim=0), beyond)
    assert 0.99 * actual <= bound <= 1.5 * actual


def test_vectors_that_are_not_found_yet_are_refused() -> None:
    weight = matrix(SHAPES[0], SPECTRA["clear gap"])
    right = torch.linalg.svd(weight.double(), full_matrices=False).Vh[:16]
    assert basis_module._checked(weight, right, 2, beyond=0.25) is not None
    right[0] += 1e-3 * torch.randn(SHAPES[0][1], generator=torch.Generator().manual_seed(3))
    assert basis_module._checked(weight, right, 2, beyond=0.25) is None


def test_factors_are_repeatable_to_the_bit() -> None:
    weight = matrix(SHAPES[1], SPECTRA["gap of 1 %"])
    torch.manual_seed(1)
    first = compute_basis({"a": weight}, 2, Solver.fast)
    torch.manual_seed(2)
    assert compute_basis({"a": weight.clone()}, 2, Solver.fast).digest == first.digest


def test_bf16_and_fp32_copies_of_a_weight_have_one_basis() -> None:
    weight = matrix(SHAPES[1], SPECTRA["gap of 1 %"]).bfloat16()
    copies = [compute_basis({"a": copy}, 2, Solver.fast) for copy in (weight, weight.float())]
    assert copies[0].digest == copies[1].digest
    assert copies[0].factors["a"].left.dtype == torch.float32


@pytest.mark.parametrize(("shape", "rank"), [((400, 200), 2), ((300, 300), 295)], ids=["small", "nearly full rank"])
def test_where_no_search_pays_the_exact_solver_is_used(
    shape: tuple[int, int], rank: int, exact_calls: list[torch.Size]
) -> None:
    weight = matrix(shape, SPECTRA["clear gap"])
    factors = truncated_svd(weight, rank, Solver.fast)
    assert exact_calls == [shape]
    torch.testing.assert_close((factors.left.T @ weight @ factors.right), factors.sigma.diag(), atol=1e-4, rtol=0)


def test_exact_solver_searches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis_module, "_fast", lambda *_: pytest.fail("searched"))
    weight = matrix(SHAPES[1], SPECTRA["clear gap"])
    assert_right(truncated_svd(weight, 2, Solver.exact), weight)


def test_rank_beyond_the_weight_is_refused() -> None:
    with pytest.raises(UsageError, match="rank=5"):
        truncated_svd(torch.ones(6, 4), 5, Solver.exact)


def small_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(8, 6, generator=generator), "b": torch.randn(6, 8, generator=generator)}


def test_cache_is_read_without_a_decomposition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_basis(small_weights(), 2, Solver.fast, tmp_path, "digest")
    monkeypatch.setattr(basis_module, "truncated_svd", lambda *_: pytest.fail("the cache was not used"))
    again = cached_basis(small_weights(), 2, Solver.fast, tmp_path, "digest")
    assert (again.digest, again.rank) == (first.digest, 2)


def written(folder: Path, weights: dict[str, torch.Tensor], rank: int = 2) -> tuple[Path, bytes]:
    """The one cache file of a folder, after the basis of these weights was asked for."""
    cached_basis(weights, rank, Solver.fast, folder, "digest")
    (path,) = folder.glob("*.safetensors")
    return path, path.read_bytes()


def test_a_cache_file_that_does_not_fit_is_replaced(tmp_path: Path) -> None:
    weights = small_weights()
    path, whole = written(tmp_path / "cache", weights)
    unfit = {
        "cut short": whole[:50],
        "empty": b"",
        "of other modules": written(tmp_path / "modules", {"c": weights["a"]})[1],
        "of other shapes": written(tmp_path / "shapes", {"a": weights["b"], "b": weights["a"]})[1],
        "of another rank": written(tmp_path / "rank", weights, rank=3)[1],
    }
    for kind, content in unfit.items():
        path.write_bytes(content)
        assert written(tmp_path / "cache", weights) == (path, whole), kind


def test_a_cache_file_of_an_older_version_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis_cache, "VERSION", 1)
    cached_basis({name: 2 * weight for name, weight in small_weights().items()}, 2, Solver.fast, tmp_path, "digest")
    monkeypatch.undo()
    new = cached_basis(small_weights(), 2, Solver.fast, tmp_path, "digest")
    assert new.digest == compute_basis(small_weights(), 2, Solver.fast).digest
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
