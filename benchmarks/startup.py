"""How long a user waits: `--help` of each command, and a default run up to its first training step, on the miniature.

Each is a process of its own, as a user starts it, into a new folder. What a run says on its way is timed: when training
begins, and when its first step is done. The first run of a machine evaluates the untrained model before that, and
computes a basis; all later ones find both in the cache folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

from benchmarks.timing import Timing, timed
from experiments.__main__ import COMMANDS
from tinylora.settings.files import CACHE_VARIABLE

RUN = ("experiments.run", "u=13", "steps=2")  # all else as a user has it; after the last step is an evaluation
MOMENTS = {"training 1 lane": "to training", "step 1/2": "to the end of step 1"}
"""What is in a line of a run, and what that means."""
FIRST, LATER = "a machine's first", "a later"
HEADING = ("seconds from the command", "median", "slowest")


def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds of each `--help`, and of the moments of a run."""
    rounds = 1 if quick else 3
    helps = {
        name: Timing(tuple(timed(partial(_help, module)) for _ in range(rounds))).as_json()
        for name, (module, _) in COMMANDS.items()
    }
    found: dict[str, list[dict[str, float]]] = {FIRST: [], LATER: []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for which in found:
                found[which].append(_moments(cache))
    runs = {
        which: {said: Timing(tuple(run[said] for run in own)).as_json() for said in MOMENTS}
        for which, own in found.items()
    }
    return {"help": helps, "run": runs}


def _help(module: str) -> None:
    subprocess.run([sys.executable, "-m", module, "--help"], check=True, capture_output=True)


def _moments(cache: str) -> dict[str, float]:
    """Seconds from the start of a run to each of its moments, with a cache folder."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", *RUN, f"outputs_dir={folder}"]
        started = time.perf_counter()
        environment = os.environ | {CACHE_VARIABLE: cache}
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        ) as run:
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
    for which, own in result["run"].items():
        names |= {f"{which} run, {MOMENTS[said]}": found for said, found in own.items()}
    return [[name, f"{found['median_s']:.2f}", f"{max(found['calls_s']):.2f}"] for name, found in names.items()]
