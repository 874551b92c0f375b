"""Peak memory of packs of 1, 8 and 32 lanes, and what a lane adds; TRL with PEFT on the same work beside it.

Every number is the peak of a fresh process that takes two steps: `python -m benchmarks.memory 8` prints that of 8
lanes, `python -m benchmarks.memory trl` that of the peer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import peak_memory

LANES = (1, 8, 32)
MIB = 2**20
HEADING = ("peak memory of a process", "MiB")


def measure(quick: bool = False) -> dict[str, Any]:
    """Peak MiB by lanes, of the peer, and of the imports alone."""
    lanes = LANES[:2] if quick else LANES
    peaks = {str(count): _peak(str(count)) for count in lanes}
    first, last = lanes[0], lanes[-1]
    return {
        "lanes": peaks,
        "per_added_lane": (peaks[str(last)] - peaks[str(first)]) / (last - first),
        "trl": _peak("trl"),
        "imports": _peak("0"),
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    table = [["TRL + PEFT, one adapter", f"{result['trl']:,.0f}"]]
    table += [[f"{count} lane{'s' if count != '1' else ''}", f"{peak:,.0f}"] for count, peak in result["lanes"].items()]
    table += [["each added lane", f"{result['per_added_lane']:,.1f}"]]
    return [*table, ["(imports of PyTorch and transformers alone)", f"{result['imports']:,.0f}"]]


def _peak(what: str) -> float:
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", what], capture_output=True, text=True, check=True
    ).stdout
    return float(printed.split()[-1]) / MIB


def _main(what: str) -> None:
    from benchmarks.trl_peer import train
    from benchmarks.workload import MINIATURE, open_lanes
    from tinylora.train.grpo import grpo_step

    with tempfile.TemporaryDirectory() as folder:
        if what == "trl":
            train(MINIATURE, "natural", 2, lambda seconds, batch: None, Path(folder))
        elif what != "0":
            pack, lanes = open_lanes(int(what), "natural", Path(folder))
            for _ in range(2):
                grpo_step(pack, lanes)
    print(peak_memory())


if __name__ == "__main__":
    _main(sys.argv[1])
