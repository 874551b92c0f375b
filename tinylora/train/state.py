"""The state of a lane, from which its training continues: safetensors, written atomically.

It is v, Adam's moments and the step counter, and no more: random streams are functions of seed and step (see
`settings.seeds`). The last two states are kept. Lanes of a pack are saved one after the other, so a kill in between
leaves some of them one step ahead; they then continue together from the newest step that all of them have saved, in the
same batches as if nothing had happened.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from tinylora.adapters.adapter_file import Tensors, damaged, read_safetensors
from tinylora.records.folder import PREVIOUS, STATE
from tinylora.settings.errors import FailureError
from tinylora.settings.files import write_atomically
from tinylora.train.pack import LaneRun


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
            tensors, metadata = read_safetensors(folder / name)
            if "v" not in tensors or not metadata.get("step", "").isdecimal():
                raise damaged(folder / name)
            step = int(metadata["step"])
            states[step] = State(step, tensors)
    return states


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
