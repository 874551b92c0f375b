"""Which points a device has room for, and how many lanes of them: the lines on memory of a plan, all in GiB."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from experiments.display import counted
from experiments.planning import estimate
from experiments.planning.devices import DEVICES, GIB, Device
from experiments.planning.packing import form_packs
from tinylora.settings.config import AUTO, Adapter, RunConfig, ShapeConfig
from tinylora.settings.groups import AUTO_SHARE

SPARED = 0.9  # of what is left beside weights and values; the rest is for temporary tensors


def fitting(points: Sequence[RunConfig], shape: ShapeConfig, device: Device) -> tuple[list[RunConfig], list[str]]:
    """The points of one model that fit alone into a device, and a line for each reason why others do not."""
    kept, refused = [], Counter[str]()
    for point in points:
        reason = _why_not(point, shape, device)
        if reason is None:
            kept.append(point)
        else:
            refused[reason] += 1
    return kept, [f"does not fit: {counted(count, 'point')}: {reason}" for reason, count in refused.items()]


def lines(points: Sequence[RunConfig], shape: ShapeConfig, device: Device) -> list[str]:
    """What some points that fit take of a device's memory, and how many of their lanes are computed at once."""
    packs = form_packs(points, lambda: device)
    largest = max(packs, key=lambda pack: _lanes_bytes(pack, shape))
    point = max(points, key=lambda each: estimate.rows_bytes(each, shape))
    weights, lanes = estimate.weight_bytes(point, shape), _lanes_bytes(largest, shape)
    left, row = _left(device.gib, weights + lanes), max(estimate.row_bytes(each, shape) for each in points)
    if left < row:
        each = max(estimate.lane_bytes(member, shape) for member in largest)
        most = max(1, int((_left(device.gib, weights) - row) / SPARED // each))
        held = f"weights {_gib(weights)}, values and moments of its lanes {_gib(lanes)}"
        fewer = f"{device.name} has {device.gib:.1f} GiB: give pack.max_lanes={most}"
        return [f"memory: a pack of {counted(len(largest), 'lane')} does not fit: {held}, and {fewer}"]
    said = (
        f"memory: weights {_gib(weights)}, values and moments of the largest pack ({counted(len(largest), 'lane')}) "
        f"{_gib(lanes)}; {device.name} has {device.gib:.1f} GiB"
    )
    return [said, *_lanes(point, shape, device, left, max(map(len, packs)))]


def _lanes(point: RunConfig, shape: ShapeConfig, device: Device, left: float, most: int) -> list[str]:
    """How many lanes' rows fit beside weights and values at once, by the budget for them and by what is `left`."""
    asked = device.gib * AUTO_SHARE if point.pack.memory_gib == AUTO else float(point.pack.memory_gib)
    budget = min(asked * GIB, left)
    at_once, in_turns = estimate.lanes_at_once(point, shape, budget), estimate.turns(point, shape, budget)
    whole = f"the rows of {min(at_once, most)} at once" if in_turns == 1 else f"the rows of one in {in_turns} turns"
    said = [f"lanes: {most} in the largest pack; {whole}, at their longest, in the {_gib(budget)} for rows"]
    if asked * GIB > left:
        said.append(
            f"note: beside the weights there is no room for {asked:.1f} GiB: give pack.memory_gib={_floor(left / GIB)}"
        )
    return said


def _floor(gib: float) -> str:
    """In hundredths, rounded down: what is said to fit does."""
    return f"{math.floor(100 * gib) / 100:g}"


def _lanes_bytes(pack: Sequence[RunConfig], shape: ShapeConfig) -> int:
    return sum(estimate.lane_bytes(point, shape) for point in pack)


def _left(gib: float, held: float) -> float:
    """Bytes of a device's memory for rows, beside what it holds."""
    return SPARED * (gib * GIB - held)


def _why_not(point: RunConfig, shape: ShapeConfig, device: Device) -> str | None:
    """Why a point does not fit into a device even alone, and what would; None where it does."""
    weights, row = estimate.weight_bytes(point, shape), estimate.row_bytes(point, shape)
    lane, kind = estimate.lane_bytes(point, shape), point.adapter.name
    if row <= _left(device.gib, weights + lane):
        return None
    held = f"weights {_gib(weights)}, a row at its longest {_gib(row)}"
    if row <= _left(device.gib, weights):  # else all points are alike in this
        named = [f"{name}={getattr(point, name)}" for name in ("u", "rank", "n_tie") if name not in kind.unused]
        held = f"{' '.join([f'adapter={kind.value}', *named])}: {held}, values and moments {_gib(lane)}"
    return f"{held}, and {device.name} has {device.gib:.1f} GiB: take {_instead(point, shape, device)}"


def _instead(point: RunConfig, shape: ShapeConfig, device: Device) -> str:
    """What would fit: another type, another adapter, a device of the table; else a smaller model."""
    weights, row = estimate.weight_bytes(point, shape), estimate.row_bytes(point, shape)
    lane, found = estimate.lane_bytes(point, shape), []
    if estimate.fits_narrower(point, shape, device.gib * GIB - lane - row / SPARED):
        found.append("model.dtype=bf16")
    if point.adapter.name is Adapter.full and row <= _left(device.gib, weights):
        found.append("another adapter than full")
    larger = sorted((each.gib, key) for key, each in DEVICES.items() if row <= _left(each.gib, weights + lane))
    found += [f"--device {key}" for _, key in larger[:1]]
    return " or ".join(found) or "a smaller model"


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB" if size >= 0.01 * GIB else "under 0.01 GiB"
