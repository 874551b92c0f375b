"""The device that a sweep would run on, as far as it is known without PyTorch: for plans, and for the size of packs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from experiments.jobs.settings import Kind, LaunchSettings
from tinylora.settings.errors import UsageError

GIB, GB = 2**30, 1e9


@dataclass(frozen=True)
class Device:
    """Where it would run."""

    name: str
    gib: float
    accelerator: bool


def find_device(gib: float | None = None) -> Device:
    """The accelerator that the NVIDIA driver names, or this machine."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        name, mib = answer.splitlines()[0].rsplit(",", 1)
        return Device(name.strip(), gib or float(mib) / 1024, accelerator=True)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        return Device("this machine" if gib is None else "the device", gib or memory, accelerator=gib is not None)


def device_of_jobs(kind: Kind, settings: LaunchSettings) -> Device:
    """What a job computes on: a GPU like those here, or the processors' memory that it asks for. Raises UsageError."""
    here = find_device()
    if kind is Kind.local or (settings.gpus and here.accelerator):
        return here
    if not settings.gpus and settings.memory_gb is not None:
        return Device("a job", settings.memory_gb * GB / GIB, accelerator=False)
    raise UsageError(
        "pack.max_lanes=auto for jobs whose memory is not known here",
        "lanes are chosen by the memory of the jobs' GPU (known where this machine has one too) or launcher.memory_gb",
        "give pack.memory_gib=<GiB for rows, such as half of the GPU's>, or pack.max_lanes=<number>",
    )
