"""A sweep: points into packs, packs one after another, a table at the end.

PyTorch takes seconds to import, so what needs it is imported when something is on the screen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from experiments.compose.fitting import shape_of
from experiments.display import open_progress, print_summary
from experiments.planning import estimate
from experiments.planning.device import GIB, Device, find_device
from tinylora.engine.ranks import rank_of_process, world_size
from tinylora.records.progress import labels
from tinylora.settings.config import AUTO, Adapter, RunConfig, ShapeConfig
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.groups import AUTO_SHARE

if TYPE_CHECKING:
    from tinylora.records.folder import RunRecord


def run_sweep(configs: Sequence[RunConfig]) -> list[RunRecord]:
    """Run all points and print their summary; returns the record of each, in their order.

    Raises UsageError or FailureError before anything is started where a point cannot run.
    """
    points = distinct(configs)
    if len(points) < len(configs):
        repeated = len(configs) - len(points)
        print(f"{repeated} of {len(configs)} points repeat another one and run once", file=sys.stderr)
    with open_progress() as progress:
        progress.phase(f"checking {_count(len(points), 'run')}")
        from tinylora.train import preflight

        preflight.check(points)
    names = dict(zip([point.run_key for point in points], labels(points), strict=True))
    records = _run_packs(form_packs(points), names)
    if rank_of_process() == 0:
        print_summary([(names[point.run_key], records[point.run_key]) for point in points])
    return [records[config.run_key] for config in configs]


def distinct(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The points without those that are the same run as an earlier one, in order."""
    points: dict[str, RunConfig] = {}
    for config in configs:
        points.setdefault(config.run_key, config)
    return list(points.values())


def form_packs(
    configs: Sequence[RunConfig], device: Callable[[], Device] = find_device, ranks: int | None = None
) -> list[list[RunConfig]]:
    """Points that may train together, in order, at most `most_lanes` in one pack.

    `device` is asked for where its memory decides; as many `ranks` train each pack (None: those of this process).
    """
    together: dict[str, list[RunConfig]] = {}
    for config in configs:
        together.setdefault(config.pack_key(), []).append(config)
    packs = []
    for group in together.values():
        size = most_lanes(group[0], device, ranks or world_size())
        packs += [group[start : start + size] for start in range(0, len(group), size)]
    return packs


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
        raise UsageError(
            f"pack.max_lanes={AUTO} for model {config.model.identity}",
            "lanes are chosen by the memory that rows take, which follows from the sizes of the model",
            "give model.shape={blocks: ..., hidden: ..., ...} (see conf/model), or pack.max_lanes=<number>",
        )
    gib = config.pack.memory_gib
    if gib == AUTO:
        found = device()
        gib = found.gib * AUTO_SHARE / (1 if found.accelerator else ranks)
    return estimate.lanes_at_once(config, shape, float(gib) * GIB * ranks)


def incomplete(records: Sequence[RunRecord]) -> FailureError | None:
    """What to say of the runs that did not finish; None where all did."""
    finished = {record.config.run_key: record.status.value == "finished" for record in records}
    if all(finished.values()):
        return None
    return FailureError(
        f"{len(finished) - sum(finished.values())} of {_count(len(finished), 'run')} did not finish",
        "a sweep is complete when every run has finished; the table gives the reasons",
        "a run that was cut short goes on with the same command; one that failed would fail again: change its "
        "settings (often a smaller lr), or remove its folder",
    )


def _run_packs(packs: Sequence[list[RunConfig]], names: dict[str, str]) -> dict[str, RunRecord]:
    """The record of each run key."""
    from tinylora.train.loop import run_pack

    records: dict[str, RunRecord] = {}
    for number, pack in enumerate(packs, start=1):
        title = f"pack {number} of {len(packs)}, {_count(len(pack), 'run')}" if len(packs) > 1 else ""
        with open_progress(title) as progress:
            for record in run_pack(pack, [names[point.run_key] for point in pack], progress):
                records[record.config.run_key] = record
    return records


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
