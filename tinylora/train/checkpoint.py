"""State of a lane (to continue it) and adapter files (to use it): safetensors, written atomically.

The state is v, Adam's moments and the step counter: all of it, since random streams are functions of seed and step
(see `seeds`). The last two states are kept: lanes of a pack are saved one after the other, and a kill in between leaves
some of them one step ahead; they then continue together from the step that all of them have, in the same batches as
if nothing had happened.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tinylora.adapters.base import Adapters, Lane, LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.settings.config import Adapter, Precision, Sharing
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import write_atomically
from tinylora.train.pack import LaneRun

STATE, PREVIOUS, ADAPTER = "state.safetensors", "state.previous.safetensors", "adapter.safetensors"
FORMAT = "tinylora-1"
SPECTRUM_TOLERANCE = 1e-3  # relative; bf16 weights have singular values within this of their fp32 originals

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class State:
    """What a lane needs to continue after `step` steps."""

    step: int
    tensors: Tensors  # v (K, u); exp_avg, exp_avg_sq (K, u) and adam_step () after the first step


def save_state(folder: Path, lane: LaneRun) -> None:
    """Save a lane's state; the last state becomes the previous one."""
    tensors = {"v": lane.v.detach()}
    for name, value in lane.optimizer.state_dict()["state"].get(0, {}).items():
        tensors["adam_step" if name == "step" else name] = value
    content = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata={"step": str(lane.step)})
    if (folder / STATE).exists():
        os.replace(folder / STATE, folder / PREVIOUS)
    write_atomically(folder / STATE, content)


def load_states(folder: Path) -> dict[int, State]:
    """The saved states by step, none to two. Raises FailureError where a file is damaged."""
    states = {}
    for name in (PREVIOUS, STATE):
        if (folder / name).exists():
            state = _read_state(folder / name)
            states[state.step] = state
    return states


def _read_state(path: Path) -> State:
    tensors, metadata = read_safetensors(path)
    if "v" not in tensors or not metadata.get("step", "").isdecimal():
        raise damaged(path)
    return State(int(metadata["step"]), tensors)


def restore(lane: LaneRun, state: State) -> None:
    """Put a lane where the state was saved."""
    if state.tensors["v"].shape != lane.v.shape:
        raise FailureError(
            f"a saved v of shape {tuple(state.tensors['v'].shape)} for {lane.label}",
            f"this run trains {tuple(lane.v.shape)} (groups, u)",
            f"remove the run folder {lane.config.folder} to start it anew",
        )
    lane.step = state.step
    lane.v.data.copy_(state.tensors["v"])
    moments = {name: t for name, t in state.tensors.items() if name.startswith("exp_avg")}
    if moments:
        current = lane.optimizer.state_dict()
        lane.optimizer.load_state_dict(current | {"state": {0: moments | {"step": state.tensors["adam_step"]}}})


def common_states(states: list[dict[int, State]]) -> list[State | None]:
    """Where each lane of a pack continues: at the newest step that all of them saved, else each at its own newest.

    None stands for a lane without any state.
    """
    shared = set.intersection(*(set(saved) for saved in states)) if states else set()
    newest = [max(saved, default=None) for saved in states]
    if shared:
        newest = [max(shared)] * len(states)
    return [None if step is None else saved[step] for saved, step in zip(states, newest, strict=True)]


def save_adapter(path: Path, adapter: Adapters, index: int, provenance: Mapping[str, str] | None = None) -> None:
    """Write one lane's adapter: the payload is what was trained, the header says how to rebuild the rest.

    The payload of TinyLoRA and LoRA-XS is the stored v, of LoRA its factors, of full fine-tuning the weights, by name.
    `provenance` (such as the model's and the basis' digest) is written into the header as it is.
    """
    lane = adapter.lane(index)
    spec = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(lane.spec).items()}
    header = {"format": FORMAT, "spec": json.dumps(spec), **(provenance or {})}
    if isinstance(adapter, TinyLora):
        header |= {"rank": str(adapter.rank), "spectrum": json.dumps(spectrum(adapter))}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in lane.tensors().items()}
    write_atomically(path, save(tensors, metadata=header))


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
    """The spec, rank, stored v (K, u) and whole header of an adapter file. Raises UsageError where it is none."""
    if not path.exists():
        raise UsageError(f"adapter file {path}", "it does not exist", "give the adapter.safetensors of a run folder")
    tensors, header = read_safetensors(path)
    if header.get("format") != FORMAT or "v" not in tensors or "rank" not in header:
        raise UsageError(
            f"adapter file {path}",
            f"its header does not say format {FORMAT} and the rank of a basis",
            "give the adapter.safetensors of a run with TinyLoRA or LoRA-XS",
        )
    spec = json.loads(header["spec"])
    for name, choices in {"sharing": Sharing, "precision": Precision, "kind": Adapter}.items():
        if name in spec:
            spec[name] = choices(spec[name])
    return LaneSpec(**spec), int(header["rank"]), tensors["v"], header


def load_v(lane: Lane, v: torch.Tensor) -> None:
    """Give a lane the v of an adapter file."""
    assert v.shape == lane.v.shape, "the adapter's groups are not this model's"
    lane.v.data.copy_(v.float())


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a file; raises FailureError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> FailureError:
    """The error for a file that cannot be what it should be."""
    return FailureError(
        f"{path} is damaged",
        "a saved state or adapter is a complete safetensors file",
        f"restore the file, or remove the folder {path.parent} to start that run anew",
    )
