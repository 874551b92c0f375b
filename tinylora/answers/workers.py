r"""The worker processes that judge what could hang or crash: started at first need, reused, replaced where they fail.

A job is a dictionary that `tinylora.answers.worker` understands, sent as a line of JSON over a pipe. They are plain
subprocesses: `multiprocessing` would import the user's script again, which need not have a main guard.

How long a call can block: a job has `SECONDS`, after which its worker is killed; a worker may take `START_SECONDS` to
start and import; and a call of `judge_all` ends after `CALL_SECONDS` and `CALL_SECONDS_PER_JOB` for each job, when
what is not judged yet counts as out of time.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinylora.answers.rewards import Outcome
from tinylora.settings.errors import UsageError

SECONDS = 3.0  # wall-clock time of one job
START_SECONDS = 30.0  # of a worker to start and import what a job needs
CALL_SECONDS = 60.0  # of one call of judge_all ...
CALL_SECONDS_PER_JOB = 0.1  # ... and beyond that for each job
MOST_WORKERS = 8
MEMORY = 2 << 30  # bytes of address space of a worker

Job = dict[str, Any]
Verdict = Any  # what the job's judge returned; or Outcome.timeout, Outcome.checker_error


def judge_all(jobs: Sequence[Job]) -> list[Verdict]:
    """The verdict on each job, in the order of the jobs; equal jobs are judged once.

    Outcome.timeout stands for a job that took longer than `SECONDS` (or was not reached in the time of the call),
    Outcome.checker_error for one whose judge raised an error or whose worker died. UsageError where a package that
    a job needs is not installed. May be called from any thread; calls wait for each other.
    """
    lines = [json.dumps(job, sort_keys=True) for job in jobs]
    with _lock:
        verdicts = _pool().run(list(dict.fromkeys(lines)))
    return [verdicts[line] for line in lines]


def worker_pids() -> list[int]:
    """The process ids of the workers that now run."""
    return [worker.process.pid for worker in _pool().workers if worker.process.poll() is None]


class _Worker:
    """One process, and the job that it is at."""

    def __init__(self) -> None:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tinylora.answers.worker", str(SECONDS), str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # One thread: the workers are many. Threads would also take address space that the limit counts.
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt from the keyboard is for the parent
        )
        self.job: str | None = None
        self.deadline = 0.0
        self.received = b""

    def send(self, job: str) -> bool:
        """Gives the worker a job; False where it has died since its last one."""
        self.job, self.deadline, self.received = job, time.monotonic() + START_SECONDS, b""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(job.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def receive(self) -> tuple[str, Any] | None:
        """What the worker says of its job once it is done (`died` where its output ended); None before."""
        assert self.process.stdout is not None
        piece = os.read(self.process.stdout.fileno(), 1 << 16)
        if not piece:
            return "died", None
        self.received += piece
        if self.received.startswith(b'"started"\n'):
            self.received = self.received.removeprefix(b'"started"\n')
            self.deadline = time.monotonic() + SECONDS
        if not self.received.endswith(b"\n"):
            return None
        [reply] = json.loads(self.received).items()
        self.job = None
        return reply[0], reply[1]

    def end(self) -> None:
        """Kills the process; it has nothing to save."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what a dead process did not read
                continue
        self.process.wait()


class _Pool:
    """The workers of this process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.workers: list[_Worker] = []

    def run(self, jobs: list[str]) -> dict[str, Verdict]:
        """The verdict on each of some different jobs."""
        verdicts: dict[str, Verdict] = {}
        waiting = jobs[::-1]
        end = time.monotonic() + CALL_SECONDS + CALL_SECONDS_PER_JOB * len(jobs)
        try:
            while len(verdicts) < len(jobs) and time.monotonic() < end:
                self._hand_out(waiting)
                self._collect(verdicts, end)
        finally:  # after an interrupt or at the end of the call's time: no worker keeps an old job
            for worker in [worker for worker in self.workers if worker.job is not None]:
                self._remove(worker)
        return {job: verdicts.get(job, Outcome.timeout) for job in jobs}

    def _hand_out(self, waiting: list[str]) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        while waiting and (idle or len(self.workers) < worker_limit()):
            if not idle:
                self.workers.append(_Worker())
                idle.append(self.workers[-1])
            worker = idle.pop()
            if not worker.send(waiting[-1]):
                self._remove(worker)  # it died while it was idle: the job is not to blame
                continue
            waiting.pop()

    def _collect(self, verdicts: dict[str, Verdict], end: float) -> None:
        """Waits for the next answers or deadlines."""
        busy = [worker for worker in self.workers if worker.job is not None]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            wait = min([end, *(worker.deadline for worker in busy)]) - time.monotonic()
            ready = [key.data for key, _ in selector.select(max(0.0, wait))]
        for worker in ready:
            job = worker.job
            reply = worker.receive()
            if reply is not None:
                verdicts[job] = self._verdict(worker, *reply)
        for worker in busy:
            if worker.job is not None and worker in self.workers and time.monotonic() >= worker.deadline:
                verdicts[worker.job] = Outcome.timeout
                self._remove(worker)

    def _verdict(self, worker: _Worker, kind: str, content: Any) -> Verdict:
        if kind == "missing":
            raise UsageError(f"a job for the package {content}", "it is not installed here", f"install {content}")
        if kind == "died":
            self._remove(worker)
        return content if kind == "verdict" else Outcome.checker_error

    def _remove(self, worker: _Worker) -> None:
        worker.end()
        self.workers.remove(worker)

    def close(self) -> None:
        """Ends all workers, in the process that started them."""
        for worker in self.workers if self.owner == os.getpid() else []:
            worker.end()
        self.workers = []


def worker_limit() -> int:
    """The most workers that run at once: one a core that this process may use, up to `MOST_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores))


def _pool() -> _Pool:
    """The pool of this process: a fork does not share its parent's."""
    global _current
    if _current.owner != os.getpid():
        _current = _Pool()
    return _current


_lock = threading.RLock()
_current = _Pool()
atexit.register(lambda: _pool().close())
