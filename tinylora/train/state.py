"""The state of a lane, from which its training continues: safetensors, written atomically.

It is v (its master, where it has one), Adam's moments, the step counter, what v is worth in a random search, and no
more: random streams are functions of seed and step (see `settings.seeds`). The last two states are kept, each with a
digest: where the newest is damaged, the one before it serves. Lanes of a pack are saved one after the other, so a kill
in between leaves some of them one step ahead; they then continue together from the newest step that all of them have
saved, in the same batches as if nothing had happened.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from tinylora.adapters.adapter_file import Tensors, damaged, read_safetensors
from tinylora.records.folder import PREVIOUS, STATE, DamagedError, RunFolder, saved_step
from tinylora.records.items import lines_with_items
from tinylora.records.kept import lines_with_kept
from tinylora.records.samples import lines_with_samples
from tinylora.settings.errors import FailureError
from tinylora.settings.files import fsync_folder, write_part
from tinylora.settings.tensor_files import with_digest
from tinylora.train.pack import LaneRun

SAMPLED, TRAINED = "tokens_sampled", "tokens_trained"  # metadata of a state
BEST = "best_reward"  # the same, of a random search alone


@dataclass(frozen=True)
class State:
    """What a lane needs to continue after `step` steps."""

    step: int
    tensors: Tensors  # v (K, u) before it is rounded; exp_avg, exp_avg_sq (K, u) and adam_step () after the first step
    tokens: tuple[int, int] = (0, 0)  # sampled, trained on
    best_reward: float | None = None  # of v, where it is the best candidate of a random search


def save_state(folder: Path, lane: LaneRun) -> None:
    """Save a lane's state; the last state becomes the previous one."""
    tensors = {"v": lane.adapter.unrounded}
    for name, value in lane.optimizer.state_dict()["state"].get(0, {}).items():
        tensors["adam_step" if name == "step" else name] = value
    metadata = {"step": str(lane.step), "run_key": lane.config.run_key}
    metadata |= {SAMPLED: str(lane.tokens_sampled), TRAINED: str(lane.tokens_trained)}
    metadata |= {} if lane.best_reward is None else {BEST: repr(lane.best_reward)}
    content = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata=metadata)
    part = folder / f"{STATE}.part"
    write_part(part, with_digest(content), lane.config.fsync)
    if (folder / STATE).exists():
        os.replace(folder / STATE, folder / PREVIOUS)
    os.replace(part, folder / STATE)
    if lane.config.fsync:
        fsync_folder(folder)


def load_states(folder: Path) -> dict[int, State]:
    """The saved states by step, none to two. Raises DamagedError where a file is damaged, or is another run's."""
    return {state.step: state for name in (PREVIOUS, STATE) if (state := _load(folder / name)) is not None}


def usable_states(folder: RunFolder) -> dict[int, State]:
    """The saved states from which a run can continue: those with the records of all steps up to them."""
    lines = folder.lines()
    steps = min(
        lines_with_items(folder.path, lines, folder.config.recipe)[0],
        lines_with_samples(folder.path, lines)[0],
        lines_with_kept(folder.path, lines)[0],
    )
    return {step: state for step, state in load_states(folder.path).items() if step < steps}


def _load(path: Path) -> State | None:
    """The state in a file; None where there is no file. Raises DamagedError."""
    if not path.exists():
        return None
    try:
        tensors, metadata = read_safetensors(path)
        own = metadata.get("run_key", path.parent.name) == path.parent.name  # earlier versions did not say
        counts = [metadata.get("step", ""), metadata.get(SAMPLED, "0"), metadata.get(TRAINED, "0")]  # some count none
        if own and "v" in tensors and all(count.isdecimal() for count in counts):
            step, sampled, trained = map(int, counts)
            return State(step, tensors, (sampled, trained), float(metadata[BEST]) if BEST in metadata else None)
    except FailureError as error:
        raise DamagedError(*error.args) from error
    except ValueError as error:  # no number
        raise DamagedError(*damaged(path).args) from error
    raise DamagedError(*damaged(path).args)


def set_aside_damaged(folder: RunFolder) -> list[str]:
    """Rename a damaged state where the other one is whole, so that the run continues from that; returns sentences.

    Raises DamagedError where no state is whole.
    """
    whole, broken = [], []
    for path in (folder.path / STATE, folder.path / PREVIOUS):
        try:
            whole += [path] if _load(path) is not None else []
        except DamagedError as error:
            broken.append((path, error))
    if broken and not whole:
        raise broken[0][1]
    for path, _ in broken:
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    return [f"{path} is damaged and set aside: the run continues from {whole[0].name}" for path, _ in broken]


def drop_states_after(folder: Path, step: int) -> None:
    """Remove states beyond a step, from which the run continues: these steps are made again."""
    if saved_step(folder / STATE) > step:
        if 0 <= saved_step(folder / PREVIOUS) <= step:
            os.replace(folder / PREVIOUS, folder / STATE)
        else:
            (folder / STATE).unlink()
    if saved_step(folder / PREVIOUS) > step:
        (folder / PREVIOUS).unlink()


def newest_step(folder: Path) -> int:
    """The step of the newest saved state; -1 where there is none."""
    return max(saved_step(folder / name) for name in (STATE, PREVIOUS))


def restore(lane: LaneRun, state: State) -> None:
    """Put a lane where the state was saved."""
    if state.tensors["v"].shape != lane.v.shape:
        raise FailureError(
            f"a saved v of shape {tuple(state.tensors['v'].shape)} for {lane.label}",
            f"this run trains {tuple(lane.v.shape)} (groups, u)",
            f"remove the run folder {lane.config.folder} to start it anew",
        )
    lane.step, (lane.tokens_sampled, lane.tokens_trained) = state.step, state.tokens
    lane.best_reward = state.best_reward
    lane.adapter.hold(state.tensors["v"])
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
