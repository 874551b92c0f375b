"""Kills at random moments, from the first millisecond of a sweep to its last; after each the same command again.

    python tests/faults/random_kills.py [--kills 200] [--real 30] [--seed 0] [--folder <folder>]

A chain begins in an empty folder: a start is killed, then the next one, until chance lets one go on to its end. That
one must end as a run that nobody disturbed: v and Adam's moments bit for bit, every line once, MLflow as the folders.
Most signals are SIGKILL, some SIGTERM, SIGINT or SIGHUP. `--real` of the kills are of `python -m experiments.run`,
which takes seconds to start; the others are of children of a warm process (see `warm.py`), so that of their shorter
lives more is spent writing. Parts with different seeds add up. Exit status 1 where a folder was unusable, a result
different, or an end without words; what is wrong stays in the folder.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults.attempts import ONE_THREAD, Attempt, Warm, compile_library  # noqa: E402 - after the path
from faults.outcome import differences  # noqa: E402

COMMAND = [
    sys.executable, "-m", "experiments.run", "-m", "u=5,13", "steps=3", "algorithm.prompts=2", "algorithm.samples=4",
    "rollout.max_new_tokens=8", "eval.test_items=1", "eval.validation_items=1",
]  # fmt: skip
SIGNALS = [signal.SIGKILL] * 7 + [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
AGAIN = 0.6  # chance that the next start of a chain is killed, too
LONGEST = 600.0  # seconds of a start

Start = Callable[[Path, float, int], Attempt]
"""Does the sweep in a folder, and after so many seconds sends it a signal."""


@dataclass
class Kind:
    """One way of starting the sweep: how, how many kills are left, how long it takes undisturbed, what it leaves."""

    name: str
    start: Start
    kills: int
    seconds: float
    wanted: Path


def real(folder: Path, after: float, number: int) -> Attempt:
    """Start a process of its own, as a person would."""
    began = time.monotonic()
    environment = os.environ | ONE_THREAD | {"HF_HUB_OFFLINE": "1", "TINYLORA_CACHE": str(folder / "cache")}
    command = [*COMMAND, f"outputs_dir={folder / 'outputs'}"]
    said = folder.with_name(f"{folder.name}.said")
    with said.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait(LONGEST)
    return Attempt(process.returncode, said.read_text(errors="replace"), time.monotonic() - began)


def forked(warm: Warm) -> Start:
    """Start a child of the warm process."""

    def start(folder: Path, after: float, number: int) -> Attempt:
        return warm.attempt(folder, kill_after=after, signal=number)

    return start


def prepared(name: str, start: Start, kills: int, folder: Path) -> Kind:
    """A kind of start, after one that nobody disturbs."""
    wanted = folder / f"undisturbed-{name}"
    wanted.mkdir(parents=True)
    whole = start(wanted, LONGEST, signal.SIGKILL)
    if whole.status != 0:
        raise SystemExit(f"the undisturbed run ends with {whole.status}: {whole.said[-2000:]}")
    return Kind(name, start, kills, whole.seconds, wanted / "outputs")


def chain(kind: Kind, rng: random.Random, folder: Path) -> tuple[list[str], list[str]]:
    """Kill and start again until one start may end; the kills, and what is wrong in the end."""
    folder.mkdir()
    kills: list[str] = []
    wrong: list[str] = []
    while kind.kills > 0 and (not kills or rng.random() < AGAIN):
        number, after = rng.choice(SIGNALS), rng.uniform(0.0, kind.seconds)
        ended = kind.start(folder, after, number)
        kinds = {0: "ended before", -number: signal.Signals(number).name, 130: f"{signal.Signals(number).name}, said"}
        kills.append(f"{kinds.get(ended.status or 0, f'status {ended.status}')} after {after:.2f} s")
        kind.kills -= ended.status != 0
        if number != signal.SIGKILL and "Traceback" in ended.said:
            wrong.append(f"{kills[-1]}: a traceback: {ended.said[-800:]}")
        if ended.status == 0:
            break
    last = kind.start(folder, LONGEST, signal.SIGKILL)
    if last.status != 0:
        return kills, [*wrong, f"unusable: the next start ends with {last.status}: {last.said[-1500:]}"]
    try:
        return kills, wrong + [f"different: {line}" for line in differences(folder / "outputs", kind.wanted)]
    except Exception as error:  # what cannot be read is a difference
        return kills, [*wrong, f"different: {type(error).__name__}: {error}"]


def main() -> int:
    """Kill, start again, count; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="all kills together (%(default)s)")
    parser.add_argument("--real", type=int, default=30, help="of them, those of real command lines (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and signals (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the runs lie (default: a temporary folder)")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="random-kills-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    warm = Warm(compile_library(folder))
    asked = {"real": (real, min(options.real, options.kills)), "forked": (forked(warm), options.kills - options.real)}
    kinds = [prepared(name, start, kills, folder) for name, (start, kills) in asked.items() if kills > 0]
    rng, counts = random.Random(options.seed), Counter[str]()
    while going := [kind for kind in kinds if kind.kills > 0]:
        kind = rng.choice(going)
        counts["chains"] += 1
        place = folder / f"{kind.name}-{options.seed}-{counts['chains']}"
        kills, wrong = chain(kind, rng, place)
        counts["kills"] += sum("ended before" not in kill for kill in kills)
        counts.update({name: any(line.startswith(name) for line in wrong) for name in ("unusable", "different")})
        counts["other"] += any("a traceback" in line for line in wrong)
        left = sum(each.kills for each in kinds)
        print(
            f"{kind.name}: {'; '.join(kills)}: {'as undisturbed' if not wrong else 'WRONG'} ({left} left)", flush=True
        )
        for line in wrong:
            print(f"  {line}\n  (seed {options.seed}, {place})", flush=True)
        if not wrong:
            shutil.rmtree(place)
    warm.close()
    print(
        f"{counts['kills']} kills in {counts['chains']} chains (seed {options.seed}): {counts['unusable']} unusable "
        f"folders, {counts['different']} differences, {counts['other']} tracebacks"
    )
    return 1 if counts["unusable"] or counts["different"] or counts["other"] else 0


if __name__ == "__main__":
    sys.exit(main())
