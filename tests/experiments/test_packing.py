"""How many lanes of a large model go together, by the memory of the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.packs import point

from experiments.jobs.request import device_of_jobs
from experiments.jobs.settings import Kind, LaunchSettings
from experiments.planning.devices import Device
from experiments.planning.packing import form_packs
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
