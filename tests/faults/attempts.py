"""Attempts at a job in a folder of its own, with a fault or without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SECONDS = 120.0  # after which a child hangs
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when."""

    mode: str = "none"
    """kill, tear, error, full, lose (see faults.c); sqlkill, sqlerror (see statements.py)."""
    k: int = 0
    """At the k-th event of the process, from 1."""


@dataclass(frozen=True)
class Attempt:
    """How a process ended."""

    status: int | None
    """Its exit status; negative: the signal that killed it; None: it hung."""
    said: str
    """All that it printed."""
    seconds: float


def compile_library(folder: Path) -> Path:
    """The library of faults.c. Raises CalledProcessError where it cannot be compiled, FileNotFoundError without cc."""
    library = folder / "faults.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "faults.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


class Warm:
    """The process of `warm.py`."""

    def __init__(self, library: Path) -> None:
        environment = os.environ | ONE_THREAD | {"HF_HUB_OFFLINE": "1", "LD_PRELOAD": str(library)}
        self.log = (library.parent / f"warm-{os.getpid()}.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment,
        )  # fmt: skip
        self._answer("ready")

    def attempt(
        self, folder: Path, fault: Fault = Fault(), job: str = "run", events: Path | None = None, **more: Any
    ) -> Attempt:
        """Do a job in `folder` with a fault; its events are listed in the file `events`, which lies outside."""
        said = folder.with_name(f"{folder.name}.said")
        asked = {"job": job, "folder": str(folder), "said": str(said), "mode": fault.mode, "k": fault.k}
        asked |= {"events": str(events) if events else None, "seconds": SECONDS} | more
        assert self.process.stdin is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        answer = json.loads(self._answer("{"))
        words = said.read_text(errors="replace") if said.exists() else ""  # a kill can come before all else
        return Attempt(answer["status"], words, answer["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()

    def _answer(self, beginning: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(beginning):
            raise RuntimeError(f"the warm process has ended; see {self.log.name}: {Path(self.log.name).read_text()}")
        return line
