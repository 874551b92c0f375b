"""The device that a sweep would run on, as far as it is known without PyTorch: for plans, and for the size of packs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

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
