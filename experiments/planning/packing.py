"""Which points train together: points into packs, how many lanes a pack may have, and the device that decides it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from experiments.compose.fitting import shape_of
from experiments.display import counted
from experiments.planning import estimate
from experiments.planning.devices import GIB, Device, find_device
from tinylora.engine.ranks import world_size
from tinylora.records.damage import status_of
from tinylora.records.folder import RunFolder, Status
from tinylora.settings.config import AUTO, Adapter, RunConfig, ShapeConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.groups import AUTO_SHARE

GOING = (Status.running, Status.cut_short)
"""How a run stands that was begun, and can be continued."""


def unfinished(points: Sequence[RunConfig]) -> list[RunConfig]:
    """The points whose runs can be begun or continued: they have neither ended nor been damaged."""
    statuses = [(point, status_of(RunFolder(point))) for point in points]
    return [point for point, status in statuses if status is None or status in GOING]


def form_packs(
    configs: Sequence[RunConfig], device: Callable[[], Device] = find_device, ranks: int | None = None
) -> list[list[RunConfig]]:
    """Points that may train together, in order, at most `most_lanes` in one pack.

    `device` is asked for where its memory decides; as many `ranks` train each pack (None: those of this process).
    """
    together: dict[str, list[RunConfig]] = {}
    for config in configs:
        together.setdefault(config.pack_key, []).append(config)
    packs = []
    for group in together.values():
        size = most_lanes(group[0], device, ranks or world_size())
        packs += [group[start : start + size] for start in range(0, len(group), size)]
    return packs


def packs_of_sweep(
    points: Sequence[RunConfig],
    device: Callable[[], Device] = find_device,
    ranks: int | None = None,
    busy: Collection[str] = (),
) -> list[list[RunConfig]]:
    """All points of a sweep in packs, by how their runs stand, but for those that are `busy` elsewhere (run keys).

    A pack that was begun keeps its company, so that its batches stay the same. Points that have not begun form packs of
    their own, which are as full as they can be; points that have ended are apart.
    """
    formed = [[point for point in pack if point.run_key not in busy] for pack in form_packs(points, device, ranks)]
    status = {point.run_key: status_of(RunFolder(point)) for pack in formed for point in pack}
    begun = [pack for pack in formed if any(status[point.run_key] in GOING for point in pack)]
    others = [point for pack in formed if pack not in begun for point in pack]
    fresh = [point for point in others if status[point.run_key] is None]
    ended = [point for point in others if status[point.run_key] is not None]
    return [*begun, *form_packs(fresh, device, ranks), *form_packs(ended, device, ranks)]


def in_packs(points: Sequence[RunConfig], device: Callable[[], Device] = find_device) -> str:
    """For a line: "8 points in 1 pack"."""
    return f"{counted(len(points), 'point')} in {counted(len(form_packs(points, device)), 'pack')}"


def most_lanes(config: RunConfig, device: Callable[[], Device], ranks: int) -> int:
    """The most lanes in a pack of this point: one where each has a model of its own.

    LoRA's lanes share products of width (lanes x rank), which beyond the model's width would cost more than its own.
    """
    if not config.adapter.name.packs:
        return 1
    shape, most = shape_of(config.model), config.pack.max_lanes
    if most == AUTO:
        most = _lanes_by_memory(config, shape, device, ranks)
    if config.adapter.name is Adapter.lora and shape is not None:
        return min(int(most), max(1, shape.hidden // config.rank))
    return int(most)


def _lanes_by_memory(config: RunConfig, shape: ShapeConfig | None, device: Callable[[], Device], ranks: int) -> int:
    """Lanes whose rows the ranks hold at once."""
    if shape is None:
        named = config.model.path is None  # a folder says its sizes itself
        raise UsageError(
            f"pack.max_lanes={AUTO} for model {config.model.identity}",
            "lanes are chosen by the memory that rows take, which follows from the sizes of the model",
            f"give pack.max_lanes=32{', or model.shape={blocks: ..., hidden: ..., ...} (see conf/model)' * named}",
        )
    gib = config.pack.memory_gib
    if gib == AUTO:
        found = device()
        gib = found.gib * AUTO_SHARE / (1 if found.accelerator else ranks)
    return estimate.lanes_at_once(config, shape, float(gib) * GIB * ranks)
