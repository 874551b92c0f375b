"""How many lanes of a large model go together, by the memory of the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.packs import point

from experiments.jobs.request import device_of_jobs
from experiments.jobs.settings import Kind, LaunchSettings
from experiments.planning.devices import Device
from experiments.planning.packing import form_packs, packs_of_sweep
from tinylora.records.digests import DIGESTS
from tinylora.records.folder import RunFolder, Status
from tinylora.settings.config import GrpoConfig, PackConfig, RunConfig, ShapeConfig
from tinylora.settings.errors import UsageError

SHAPE = ShapeConfig(
    blocks=28,
    hidden=3584,
    intermediate=18944,
    heads=28,
    kv_heads=4,
    head_width=128,
    vocabulary=152064,
    tied=False,
    context=32768,
)


def lanes(gib: float | str, device: Device, ranks: int = 1) -> int:
    """The size of the packs of 200 points of a 7B model."""
    first = point(Path("o"), algorithm=GrpoConfig(prompts=64, samples=4), pack=PackConfig("auto", gib))
    first = replace(first, model=replace(first.model, shape=SHAPE))
    points: list[RunConfig] = [replace(first, seed=seed) for seed in range(200)]
    return len(form_packs(points, lambda: device, ranks)[0])


def test_lanes_by_memory() -> None:
    gpu, machine = Device("a GPU", 80, accelerator=True), Device("a job", 80, accelerator=False)
    few = lanes(10, gpu)
    assert 1 < few < 200 and lanes(1e-9, gpu) == 1
    assert lanes("auto", gpu) == lanes(40, machine) == lanes(20, gpu, ranks=2) == lanes("auto", machine, ranks=2)
    assert few * 4 <= lanes(40, gpu) and lanes("auto", gpu, ranks=2) >= 2 * lanes("auto", gpu)


def test_the_memory_of_jobs_is_their_gpus_or_what_they_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # no nvidia-smi
    assert device_of_jobs(Kind.slurm, LaunchSettings(memory_gb=2**30 / 1e9 * 8)).gib == pytest.approx(8)
    with pytest.raises(UsageError, match="memory is not known here"):
        device_of_jobs(Kind.slurm, LaunchSettings(gpus=1, memory_gb=8))
    with pytest.raises(UsageError, match=r"pack\.max_lanes=0"):
        point(Path("o"), pack=PackConfig(0))


def seeds(packs: list[list[RunConfig]]) -> list[list[int]]:
    return [[point.seed for point in pack] for pack in packs]


def begin(run: RunConfig, end: Status | None = None) -> None:
    """Make the folder of a run, which has ended, was stopped, or runs."""
    RunFolder(run).path.mkdir(parents=True)
    RunFolder(run).describe({"trained_values": 13} | dict.fromkeys(DIGESTS, "0123456789abcdef"))
    if end is not None:
        RunFolder(run).conclude(end, None, {})


def test_new_points_fill_packs_of_their_own(tmp_path: Path) -> None:
    points = [point(tmp_path, seed=seed, pack=PackConfig(4)) for seed in range(12)]
    assert seeds(packs_of_sweep(points)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    for seed in (0, 2, 3, 5, 7, 9):
        begin(points[seed], Status.failed)
    assert seeds(packs_of_sweep(points)) == [[1, 4, 6, 8], [10, 11], [0, 2, 3, 5], [7, 9]]


def test_a_pack_that_was_begun_keeps_its_company(tmp_path: Path) -> None:
    points = [point(tmp_path, seed=seed, pack=PackConfig(4)) for seed in range(12)]
    begin(points[4], Status.failed)
    begin(points[5], Status.cut_short)
    begin(points[8])
    keys = {point.run_key for point in points[8:10]}
    assert seeds(packs_of_sweep(points)) == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]
    assert seeds(packs_of_sweep(points, busy=keys)) == [[4, 5, 6, 7], [0, 1, 2, 3], [10, 11]]
