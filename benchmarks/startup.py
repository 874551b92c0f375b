"""How long a user waits: `--help` of each command, and a default run up to its first training step, on the miniature.

Each is a process of its own, as a user starts it, into a new folder. What a run says on its way is timed: when the
evaluation of the untrained model begins, when training begins, when the first step is done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

from benchmarks.timing import Timing, timed
from experiments.__main__ import COMMANDS

RUN = ("experiments.run", "u=13", "steps=1")  # all else as a user has it, who gives nothing
MOMENTS = {"evaluating": "to the first evaluation", "training": "to training", "step 1/1": "to the end of step 1"}
"""How a line of a run begins or what is in it, and what that means."""
HEADING = ("seconds from the command", "median", "slowest")


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of each `--help`, and of the moments of a run."""
    rounds = 1 if quick else 3
    helps = {
        name: Timing(tuple(timed(partial(_help, module)) for _ in range(rounds))).as_json()
        for name, (module, _) in COMMANDS.items()
    }
    runs = [_moments() for _ in range(rounds)]
    return {"help": helps, "run": {said: Timing(tuple(run[said] for run in runs)).as_json() for said in MOMENTS}}


def _help(module: str) -> None:
    subprocess.run([sys.executable, "-m", module, "--help"], check=True, capture_output=True)


def _moments() -> dict[str, float]:
    """Seconds from the start of a run to each of its moments."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", *RUN, f"outputs_dir={folder}"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            for line in run.stderr:
                for said in MOMENTS:
                    if said in line:
                        found.setdefault(said, time.perf_counter() - started)
        assert run.returncode == 0 and found.keys() == MOMENTS.keys(), found
    return found


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Lines of the table with HEADING."""
    names = {f"{name} --help": found for name, found in result["help"].items()}
    names |= {f"a run, {MOMENTS[said]}": found for said, found in result["run"].items()}
    return [[name, f"{found['median_s']:.2f}", f"{max(found['calls_s']):.2f}"] for name, found in names.items()]
