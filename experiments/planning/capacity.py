"""Whether points fit into the memory of where they would run, by what `estimate` knows of them: asked before a start.

What is refused can in no way fit: only what surely is in memory at once is counted, and no more than once. Rows wait
for others to end where there is no room, so a long step takes long and fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

from experiments.compose.fitting import shape_of
from experiments.planning import estimate
from experiments.planning.devices import GIB, Device, find_device, machine_memory
from experiments.planning.packing import form_packs
from tinylora.settings.algorithms import samples_of
from tinylora.settings.config import ALL, AUTO, Adapter, RunConfig, ShapeConfig
from tinylora.settings.errors import UsageError

LARGEST_GIB = 512.0  # what a device that is not known here is taken to have: more than any accelerator


@dataclass(frozen=True)
class Place:
    """Where points would run: the device of the model, and the machine that it is in."""

    device: Device
    host: Device


def _unknown() -> Place:
    device = Device("the largest device", LARGEST_GIB, accelerator=False)
    return Place(device, device)


UNKNOWN = _unknown()


@cache
def here(device: str) -> Place:
    """This machine, with the device that `model.device` names."""
    host = Device("this machine", machine_memory(), accelerator=False)
    return Place(host if device == "cpu" else find_device(), host)


def require_memory(points: Sequence[RunConfig], place: Place | None = None) -> None:
    """Raise UsageError for the first point that cannot fit, alone or with the others of its pack.

    `place` is where they would run; None: on this machine.
    """
    for point in points:
        _check_point(point, shape_of(point.model), place or here(point.model.device))
    for pack in form_packs(points):
        shape = shape_of(pack[0].model)
        if shape is not None and len(pack) > 1:
            _check_pack(pack, shape, (place or here(pack[0].model.device)).device)


def _check_point(point: RunConfig, shape: ShapeConfig | None, place: Place) -> None:
    budget = point.pack.memory_gib
    if budget != AUTO and float(budget) > max(place.device.gib, place.host.gib):
        _refuse(f"pack.memory_gib={budget}", "that is", float(budget) * GIB, place.device, f"pack.memory_gib={AUTO}")
    if shape is not None:
        _check_lane(point, shape, place.device)
    length = f"rollout.max_new_tokens={point.rollout.max_new_tokens}"
    algorithm, settings = point.algorithm, point.eval
    samples = f" algorithm.samples={count}" if (count := samples_of(algorithm)) else ""
    items = f"eval.test_items={settings.test_items} eval.validation_items={settings.validation_items}"
    of_each = f"eval.samples={settings.samples} eval.samples_per_item={settings.samples_per_item}"
    held = {
        f"algorithm.prompts={algorithm.prompts}{samples} {length}": estimate.step_bytes(point),
        f"{items} {of_each} {length}": estimate.evaluation_bytes(point),
        f"steps={point.steps}": estimate.record_bytes(point),
    }
    for given, size in held.items():
        if size > place.host.gib * GIB:
            _refuse(given, "what is held of it at once takes", size, place.host, "less of it")


def _check_lane(point: RunConfig, shape: ShapeConfig, device: Device) -> None:
    kind = point.adapter.name
    row, length = estimate.row_bytes(point, shape), f"rollout.max_new_tokens={point.rollout.max_new_tokens}"
    if row > device.gib * GIB:
        _refuse(length, "the keys and values of one row take", row, device, "a smaller rollout.max_new_tokens")
    if device is UNKNOWN.device and kind is Adapter.full:
        return  # its size is that of the model, which a plan may be about
    used = [name for name in ("u", "rank", "n_tie") if name not in kind.unused]
    given = " ".join([f"adapter={kind.value}", *(f"{name}={getattr(point, name)}" for name in used)])
    fewer = [f"a smaller {name}" for name in ("u", "rank") if name in used and getattr(point, name) > 1]
    fewer += ["a larger n_tie"] if "n_tie" in used and point.n_tie != ALL else []
    lane = estimate.lane_bytes(point, shape) + estimate.drawing_bytes(point, shape)
    if lane > device.gib * GIB:
        what = "the values of a lane and what they are multiplied with take"
        _refuse(given, what, lane, device, " or ".join(fewer) or "a smaller model")
    weights = estimate.weight_bytes(point, shape)
    if weights + lane > device.gib * GIB and device is not UNKNOWN.device:
        what = "its weights and the values of a lane take"
        given = f"model {point.model.identity} in {point.model.dtype.value} with {given}"
        narrower = estimate.fits_narrower(point, shape, device.gib * GIB - lane)
        _refuse(given, what, weights + lane, device, "a smaller model" + ", or model.dtype=bf16" * narrower)


def _check_pack(pack: Sequence[RunConfig], shape: ShapeConfig, device: Device) -> None:
    lanes = [estimate.lane_bytes(point, shape) for point in pack]
    left = device.gib * GIB - estimate.weight_bytes(pack[0], shape)
    if sum(lanes) > left > 0:
        what = "the values of its lanes and what they are multiplied with take"
        most = max(1, int(left // max(lanes)))
        _refuse(f"a pack of {len(pack)} points", what, sum(lanes), device, f"pack.max_lanes={most} or less")


def _refuse(given: str, what: str, size: float, device: Device, instead: str) -> NoReturn:
    raise UsageError(
        given,
        f"{what} at least {size / GIB:,.1f} GiB, and {device.name} has {device.gib:,.1f} GiB",
        f"give {instead}, or take a machine with more memory",
    )
