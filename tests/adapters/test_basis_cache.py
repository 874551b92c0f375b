"""The cache of bases: checked, shared by all outputs_dir, computed once by whoever comes first."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest
import torch
from support.packs import point

from tinylora.adapters import basis_cache
from tinylora.adapters.basis import Basis, compute_basis
from tinylora.adapters.basis_cache import cached_basis
from tinylora.records.folder import Unmirrored
from tinylora.records.progress import Silent
from tinylora.settings.config import EvalConfig, GrpoConfig, Solver
from tinylora.settings.files import CACHE_VARIABLE
from tinylora.train.loop import run_pack

WEIGHTS = {name: torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) for name in ("a", "b")}
SMALL = {
    "steps": 1,
    "algorithm": GrpoConfig(prompts=1, samples=2),
    "eval": EvalConfig(test_items=1, validation_items=1),
}


def cached(folder: Path, earlier: Path | None = None) -> Basis:
    return cached_basis(WEIGHTS, 2, Solver.exact, folder, "digest", earlier=earlier)


def file_of(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every basis that is computed."""
    counts: list[int] = []

    def compute(*given: object) -> Basis:
        counts.append(1)
        return compute_basis(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(basis_cache, "compute_basis", compute)
    return counts


def test_a_flipped_bit_is_noticed_and_the_basis_computed_anew(tmp_path: Path, counted: list[int]) -> None:
    first = cached(tmp_path)
    path = file_of(tmp_path)
    whole = path.read_bytes()
    for place in (-1, -40, 20):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        assert cached(tmp_path).digest == first.digest and path.read_bytes() == whole
    assert len(counted) == 4


def test_a_second_outputs_dir_finds_it(tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("one", "two"):
        run_pack([point(tmp_path / name, **SMALL)], ["a"], Silent(), Unmirrored())
        assert not (tmp_path / name / "basis").exists()
    assert len(counted) == 1 and len(list((tmp_path / "cache" / "basis").glob("*.safetensors"))) == 1


def test_what_an_earlier_version_left_in_outputs_dir_comes_first(tmp_path: Path, counted: list[int]) -> None:
    cached(tmp_path / "cache")
    (tmp_path / "outputs").mkdir()
    path = tmp_path / "outputs" / file_of(tmp_path / "cache").name
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(WEIGHTS, "a", 2 * WEIGHTS["a"])
        cached(tmp_path / "other")
        path.write_bytes(file_of(tmp_path / "other").read_bytes())
    assert cached(tmp_path / "cache", tmp_path / "outputs").digest != cached(tmp_path / "cache").digest


def test_many_at_once_compute_it_once(tmp_path: Path, counted: list[int]) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(cached(tmp_path).digest)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4 and len(counted) == 1


def test_without_locks_the_first_to_publish_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(38, os.strerror(38))

    other = compute_basis({name: 2 * weight for name, weight in WEIGHTS.items()}, 2, Solver.exact)

    def beaten(*_: object) -> Basis:
        """Computes, while another process publishes."""
        name = tmp_path / "digest-r2-exact-v2.safetensors"
        basis_cache._publish(name, other, alone=False)
        return compute_basis(WEIGHTS, 2, Solver.exact)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(basis_cache, "compute_basis", beaten)
    assert cached(tmp_path).digest == other.digest
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_it_is_readable_by_the_group(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        cached(tmp_path / "cache")
    finally:
        os.umask(before)
    assert file_of(tmp_path / "cache").stat().st_mode & stat.S_IRGRP
    assert (tmp_path / "cache").stat().st_mode & stat.S_IXGRP


def test_a_cache_that_cannot_be_written_to_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    basis = cached_basis(WEIGHTS, 2, Solver.exact, tmp_path / "file", "digest", said.append)
    assert basis.digest == compute_basis(WEIGHTS, 2, Solver.exact).digest and "not kept" in said[-1]
