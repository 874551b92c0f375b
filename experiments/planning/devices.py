"""The devices that points run on, as far as they are known without PyTorch: those here, and a small table to plan for.

Memory is in GiB everywhere. Peaks are those of the vendor's data sheets for dense bf16 products; training and sampling
keep up a part of that, which is assumed and not measured.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace

GIB, GB = 2**30, 1e9
KEPT_UP = 0.15  # of a peak: assumed
UNKNOWN_TFLOPS, PROCESSOR_TFLOPS = 150.0, 0.05  # assumed: of an accelerator that the table lacks, and of two cores


@dataclass(frozen=True)
class Device:
    """Where points would run."""

    name: str
    gib: float
    accelerator: bool
    peak: float | None = None
    """Documented teraflops per second of dense bf16 products; None where the table does not have it."""

    @property
    def tflops(self) -> float:
        """Teraflops per second that it is taken to keep up."""
        if self.peak is not None:
            return KEPT_UP * self.peak
        return UNKNOWN_TFLOPS if self.accelerator else PROCESSOR_TFLOPS

    @property
    def why(self) -> str:
        """Where that number comes from, for a line."""
        if self.peak is not None:
            return f"assumed: {KEPT_UP:.0%} of the {self.peak:g} that are documented of {self.name}"
        return f"assumed of {self.name}"


DEVICES = {  # memory as the driver shows it, rounded down
    "h200-141": Device("H200 141 GB", 139, True, 989),
    "h100-80": Device("H100 80 GB (SXM)", 79, True, 989),
    "a100-80": Device("A100 80 GB", 79, True, 312),
    "a100-40": Device("A100 40 GB", 39, True, 312),
    "l40s-48": Device("L40S 48 GB", 44, True, 362),
    "l4-24": Device("L4 24 GB", 22, True, 121),
    "rtx4090-24": Device("RTX 4090 24 GB", 23, True, 165),
}


def find_device() -> Device:
    """The accelerator that the NVIDIA driver names, or this machine."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        name, mib = answer.splitlines()[0].rsplit(",", 1)
        return Device(name.strip(), float(mib) / 1024, accelerator=True, peak=_peak_of(name))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return Device("this machine", machine_memory(), accelerator=False)


def planned_device(named: str | None, gib: float | None) -> Device:
    """The device of a plan: one of the table, by its key, or the one here; with another memory where that is given."""
    device = DEVICES[named] if named is not None else find_device()
    if gib is None:
        return device
    return replace(device, gib=gib) if device.accelerator else Device("the device", gib, accelerator=True)


def machine_memory() -> float:
    """The memory of this machine, in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def _peak_of(name: str) -> float | None:
    """The peak of a device by the driver's name for it: its model (H100, 4090) is a word of that."""
    words = re.split(r"\W+", name.upper())
    known = {key.partition("-")[0].removeprefix("rtx").upper(): device.peak for key, device in DEVICES.items()}
    return next((known[word] for word in words if word in known), None)
