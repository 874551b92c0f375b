"""Bases in the cache folder of the machine: each is computed once for all runs of a model, whatever their outputs_dir.

A file is checked by its digest when it is read, and a damaged one is computed anew. Processes that need the same basis
at the same time wait for the one that computes it. Where a file system has no locks they compute it side by side; the
first to publish it wins, and the others take what it has published, so that all use the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from filelock import Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save

from tinylora.adapters.basis import VERSION, Basis, Factors, compute_basis
from tinylora.settings.config import Solver
from tinylora.settings.errors import FailureError, first_line
from tinylora.settings.files import held, write_part
from tinylora.settings.leftovers import clear_files, temporary
from tinylora.settings.tensor_files import is_whole, with_digest

FOLDER = "basis"  # below the cache folder of the machine; earlier versions had it below outputs_dir
READABLE_BY_GROUP, OPEN_TO_GROUP = 0o040, 0o050  # added to the mode of a file, of a folder

Progress = Callable[[str], None]


def cached_basis(
    weights: Mapping[str, torch.Tensor],
    rank: int,
    solver: Solver,
    cache: Path,
    model_digest: str,
    progress: Progress = lambda _: None,
    earlier: Path | None = None,
) -> Basis:
    """The basis of a model's weights (d_out, d_in) from the cache folder, or computed and put there.

    A file in the folder of an `earlier` version comes first: the runs there began with it. Where the cache cannot be
    written to, the basis is computed, and that is said to `progress`.
    """
    name = f"{model_digest}-r{rank}-{solver.value}-v{VERSION}.safetensors"
    path = cache / name
    for known in [path] if earlier is None else [earlier / name, path]:
        if (basis := _read(known, rank, weights)) is not None:
            return basis

    alone = False
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_turn(path, progress))
            alone = True
            clear_files(cache)
        except (OSError, FailureError) as error:  # none can be had there
            progress(f"basis: computed without a lock ({first_line(error)})")
        if (basis := _read(path, rank, weights)) is not None:
            return basis  # of the process that had the lock
        computed = compute_basis(weights, rank, solver, progress)
        try:
            _publish(path, computed, alone)
        except OSError as error:
            progress(f"basis: not kept for other runs ({first_line(error)})")
    return _read(path, rank, weights) or computed


@contextmanager
def _turn(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of a cache file; that another process has it, and computes, is said."""
    lock = path.with_suffix(".lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock, seconds=0))
        except Timeout:
            progress("basis: waiting for the process that computes it")
            stack.enter_context(held(lock))
        yield


def _publish(path: Path, basis: Basis, alone: bool) -> None:
    """Put a basis where others find it; whoever is not `alone` at it leaves what another process has put there."""
    tensors: dict[str, torch.Tensor] = {}
    for name, factors in basis.factors.items():
        tensors |= {f"{name}.u": factors.left, f"{name}.sigma": factors.sigma, f"{name}.v": factors.right}
    part = temporary(path)
    try:
        write_part(part, with_digest(save(tensors)))
        part.chmod(part.stat().st_mode | READABLE_BY_GROUP)
        with suppress(PermissionError):  # another member of the group has made the folder
            path.parent.chmod(path.parent.stat().st_mode | OPEN_TO_GROUP)
        if alone or (path.exists() and not is_whole(path)):
            os.replace(part, path)
        else:
            with suppress(FileExistsError):
                os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path, rank: int, weights: Mapping[str, torch.Tensor]) -> Basis | None:
    """The basis of a cache file, or None where it is not a whole one of these weights."""
    if not is_whole(path):
        return None
    try:
        tensors = load(path.read_bytes())  # not mapped: the file is others' too
        factors = {n: Factors(tensors[f"{n}.u"], tensors[f"{n}.sigma"], tensors[f"{n}.v"]) for n in weights}
    except (SafetensorError, OSError, KeyError):
        return None
    fits = all((len(f.left), len(f.right), len(f.sigma)) == (*weights[n].shape, rank) for n, f in factors.items())
    return Basis(rank, factors) if fits else None
