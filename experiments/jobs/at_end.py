"""A message at the end of a submission: `launcher.at_end`, a shell command of the user's, run by a job of its own.

In SLURM that job depends on all the others, however they end; on one's own machine it waits for their processes. The
command finds the sweep's id, a line on how it stands and its outputs_dir in TINYLORA_SWEEP, TINYLORA_SAID and
TINYLORA_OUTPUTS, and what `experiments.status` would print on its standard input.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.core import Executor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from experiments.jobs import ledger
from experiments.jobs.ledger import Sweep
from experiments.jobs.states import State, process_lives, states_of
from experiments.jobs.watch import active_packs, describe
from tinylora.settings.errors import first_line

SECONDS_BETWEEN_LOOKS = 2.0
LOOKS = 30
MINUTES = 30  # that the command may take
OF_OTHERS = ("gpus_per_node", "gres", "mem", "mem_per_gpu", "srun_args", "array_parallelism", "teardown")
"""What the other jobs ask for, and this one does not."""


@dataclass(frozen=True)
class EndJob:
    """The job that runs the command."""

    sweep: str
    submission: int
    processes: tuple[str, ...] = ()
    """Those that it waits for, where no scheduler does."""

    def __call__(self) -> None:
        """Wait for the others, and run the command."""
        sweep, submission = ledger.submitted(Path(self.sweep), self.submission)
        while any(process_lives(process, sweep.place(submission)) for process in self.processes):
            time.sleep(SECONDS_BETWEEN_LOOKS)
        text = _standing(sweep)
        about = {"SWEEP": sweep.id, "SAID": text.splitlines()[0], "OUTPUTS": str(sweep.folder.parent.parent)}
        variables = os.environ | {f"TINYLORA_{name}": value for name, value in about.items()}
        command = submission.settings["at_end"]
        subprocess.run(command, shell=True, input=text + "\n", text=True, env=variables, check=True)


def _standing(sweep: Sweep) -> str:
    """How a sweep stands, once the scheduler has cleared up after its jobs, or in a minute."""
    for _ in range(LOOKS):
        others = ledger.all_sweeps(sweep.folder.parent.parent)
        states = states_of(sweep, active_packs(others, patient=True), others)
        if State.ending not in (lane.state for lane in states):
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return describe(sweep, states)


def submit_end(executor: Executor, job: EndJob) -> None:
    """Submit the job that runs `launcher.at_end`; where it is refused, that is said: the others are submitted."""
    try:
        executor.submit(job)
    except (FailedJobError, FailedSubmissionError) as error:
        print(f"launcher.at_end will not be run: {first_line(error)}", file=sys.stderr)


def parameters_of_end(parameters: Mapping[str, Any], name: str, jobs: Sequence[str]) -> dict[str, Any]:
    """What SLURM is asked for: one processor of the same partition and account, once all jobs have ended."""
    ids = ":".join(dict.fromkeys(job.partition("_")[0] for job in jobs))
    kept = {key: value for key, value in parameters.items() if key not in OF_OTHERS}
    more = parameters["additional_parameters"] | {"dependency": f"afterany:{ids}"}
    own = {"job_name": name, "nodes": 1, "cpus_per_task": 1, "ntasks_per_node": 1, "time": MINUTES}
    return kept | own | {"additional_parameters": more}
