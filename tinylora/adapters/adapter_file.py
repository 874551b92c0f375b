"""Adapter files: one lane's trained values as safetensors, with a header from which everything else is rebuilt.

The header holds the lane's spec, with the recipe by which projections are drawn, the rank, and the largest singular
value of every adapted weight, which tells one model from another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tinylora.adapters.base import Adapters
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.rounding import values
from tinylora.adapters.tinylora import TinyLora
from tinylora.settings.config import RECIPE, as_plain
from tinylora.settings.errors import FailureError, require
from tinylora.settings.files import write_atomically
from tinylora.settings.recorded import build
from tinylora.settings.tensor_files import DIGEST, is_whole, with_digest
from tinylora.settings.uses import FIRST_WITH_PROJECTION_SEED

FORMAT = "tinylora-1"
SPECTRUM_TOLERANCE = 1e-3  # relative; bf16 weights have singular values within this of their fp32 originals

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class AdapterFile:
    """What an adapter file holds, of any kind of adapter."""

    spec: LaneSpec
    tensors: Tensors  # as `Lane.tensors` gives them
    header: dict[str, str]


def save_adapter(
    path: Path, adapter: Adapters, index: int, provenance: Mapping[str, str] | None = None, fsync: bool = True
) -> None:
    """Write one lane's adapter: the payload is what was trained, the header says how to rebuild the rest.

    The payload of TinyLoRA and LoRA-XS is the stored v, of LoRA its factors, of full fine-tuning the updates of the
    weights (the weights themselves before recipe 3), by name. Whole numbers are int8, with their `scale` ().
    `provenance` (such as the model's and the basis' digest) is written into the header as it is.
    """
    lane = adapter.lane(index)
    header = {"format": FORMAT, "spec": json.dumps(as_plain(lane.spec)), **(provenance or {})}
    if isinstance(adapter, TinyLora):
        header |= {"rank": str(adapter.rank), "spectrum": json.dumps(spectrum(adapter))}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in lane.tensors().items()}
    write_atomically(path, with_digest(save(tensors, metadata=header)), fsync)


def spectrum(adapter: TinyLora) -> dict[str, float]:
    """The largest singular value of every adapted weight, by module: it tells one model from another."""
    return {name: round(float(factors.sigma[0]), 6) for name, factors in adapter.basis.factors.items()}


def same_spectrum(header: Mapping[str, str], adapter: TinyLora) -> bool:
    """Whether an adapter file was made on these weights, up to the rounding of another machine or type."""
    expected: dict[str, float] = json.loads(header["spectrum"])
    found = spectrum(adapter)
    return expected.keys() == found.keys() and all(
        math.isclose(expected[name], found[name], rel_tol=SPECTRUM_TOLERANCE) for name in found
    )


def read_adapter(path: Path) -> tuple[LaneSpec, int, torch.Tensor, dict[str, str]]:
    """The spec, rank, v (K, u) in fp32 and whole header of an adapter file. Raises UsageError where it is none."""
    found = read_adapter_file(path)
    require(
        "v" in found.tensors and "rank" in found.header,
        f"adapter file {path}",
        f"its header does not say format {FORMAT} and the rank of a basis",
        "give the adapter.safetensors of a run with TinyLoRA or LoRA-XS",
    )
    v = values(found.tensors["v"], found.tensors.get("scale"))
    return found.spec, int(found.header["rank"]), v, found.header


def read_adapter_file(path: Path) -> AdapterFile:
    """The content of the adapter file of any adapter. Raises UsageError where it is none, FailureError for damage."""
    given = f"adapter file {path}"
    require(path.exists(), given, "it does not exist", "give the adapter.safetensors of a run folder")
    tensors, header = read_safetensors(path)
    require(
        header.get("format") == FORMAT and "spec" in header,
        given,
        f"its header does not say format {FORMAT} and how the adapter is made",
        "give the adapter.safetensors of a run folder",
    )
    spec = {"recipe": 1} | json.loads(header["spec"])  # the first files did not say the recipe
    recipe = spec["recipe"]
    require(
        recipe <= RECIPE,
        given,
        f"its projections are drawn by recipe {recipe}, and this version knows recipes up to {RECIPE}",
        "read it with the version that wrote it, or a later one",
    )
    if recipe < FIRST_WITH_PROJECTION_SEED:
        spec["projection_seed"] = spec["seed"]
    return AdapterFile(build(LaneSpec, spec), tensors, header)


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a file, without its digest. Raises FailureError where it is damaged, also by that."""
    if not is_whole(path):
        raise damaged(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {name: value for name, value in (file.metadata() or {}).items() if name != DIGEST}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> FailureError:
    """The error for a file that cannot be what it should be."""
    return FailureError(
        f"{path} is damaged",
        "a saved state or adapter is a complete safetensors file, of which every byte is as it was written",
        f"restore the file, or remove the folder {path.parent} to start that run anew",
    )
