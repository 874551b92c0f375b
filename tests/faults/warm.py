"""A process with everything imported, which forks a child for each job: a run then takes a third of a second.

Started by `attempts.Warm`, with the library of `faults.c` preloaded. It reads a job a line (JSON), and answers with a
line when the child has ended. Only the child is armed; what it says goes into a file.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def serve() -> None:
    """Answer jobs until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed while everything is imported is no answer
    os.environ.pop("LD_PRELOAD", None)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import_everything()
    require_one_thread()
    gc.collect()
    gc.freeze()  # else every child copies all of it as it collects garbage
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), file=out, flush=True)


def import_everything() -> None:
    """Import what a run needs by a run: much of it is imported on the way."""
    import tempfile

    from faults.points import points

    from experiments.command import run_command
    from experiments.sweep import run_sweep
    from tinylora.train import recorder

    recorder.SAVING_SHARE = float("inf")  # states are saved at every step, however long that takes: k stays what it is
    for name in ("sync", "status", "records"):
        importlib.import_module(f"experiments.{name}")
    importlib.import_module("analysis.build")
    with tempfile.TemporaryDirectory() as folder:
        run_command(lambda: run_sweep(points(Path(folder), steps=1)) and None)


def require_one_thread() -> None:
    """A child has none of the threads of its parent, and what they held stays held: there must be none."""
    names = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    others = [name for name in names if name != "jemalloc_bg_thd"]  # jemalloc starts its own again
    if len(others) > 1:
        raise SystemExit(f"forking is not safe beside other threads: {others}")


def attempt(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job in a child; its exit status (negative: its signal; None: it took too long) and the seconds it took."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        in_child(job)
    until, kill_at = began + job["seconds"], began + job.get("kill_after", float("inf"))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if ended:
            return {"status": os.waitstatus_to_exitcode(status), "seconds": now - began}
        if now >= kill_at:
            os.kill(child, job["signal"])
            kill_at = float("inf")
        if now >= until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"status": None, "seconds": now - began}
        time.sleep(0.002)


def in_child(job: dict[str, Any]) -> None:
    """Do the job and end the process, as the interpreter would."""
    status = 99
    try:
        os.setpgid(0, 0)
        said = os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(said, 1), os.dup2(said, 2)
        os.chdir(job["folder"])
        os.environ["TINYLORA_CACHE"] = str(Path(job["folder"]) / "cache")
        arm(job)
        status = do(job)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def arm(job: dict[str, Any]) -> None:
    """Have the fault of a job happen."""
    if job["mode"].startswith("sql"):
        from faults import statements

        statements.arm(job["mode"], job["k"], job["events"])
        return
    modes = {"none": 0, "list": 0, "kill": 1, "tear": 2, "error": 3, "full": 4, "lose": 5}
    events = os.open(job["events"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if job["events"] else -1
    folder = job["folder"].encode()
    ctypes.CDLL(None).fault_arm(folder, modes[job["mode"]], ctypes.c_long(job["k"]), events)


def do(job: dict[str, Any]) -> int:
    """The job itself, which is the sweep of `points`, a part of it, or a command.

    `folders` is the sweep without MLflow, `store` MLflow's store alone, `schema` that store before it is used.
    """
    from faults.points import points

    from experiments.command import run_command

    outputs, name = Path(job["folder"]) / "outputs", job["job"]
    if name == "run":
        from experiments.sweep import require_finished, run_sweep
        from tinylora.records import mirror

        if job["mode"] != "none":
            mirror.SECONDS_BETWEEN_PUSHES = 0.0  # the store is written to after every step: more to be hit
        return run_command(lambda: require_finished(run_sweep(points(outputs))))
    if name == "folders":
        from experiments.sweep import require_finished, run_sweep
        from tinylora.records.folder import Unmirrored

        return run_command(lambda: require_finished(run_sweep(points(outputs), mirror=Unmirrored())))
    if name == "schema":
        from mlflow import MlflowClient

        outputs.mkdir(exist_ok=True)
        MlflowClient(tracking_uri=points(outputs)[0].tracking_uri).search_experiments()
        return 0
    if name == "store":
        from tinylora.records.mirror import Mirror

        return run_command(lambda: Mirror(points(outputs)[0]) and None)
    module = importlib.import_module(name)
    sys.argv = [f"python -m {name}", *job["words"]]
    return int(module.main(job["words"]))


if __name__ == "__main__":
    serve()
