"""How long a wrong command line takes to be refused: `python -m benchmarks.refusals [part of a word ...]`.

Each line of tests/faults/command_lines.yaml in a process of its own, as a person would start it; with arguments, those
that contain one of them. The goal is 2 s. What needs the model (its tokenizer, its chat template) imports PyTorch,
which alone takes as long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from statistics import median

from benchmarks.timing import markdown, timed

ROOT = Path(__file__).parents[1]
GOAL = 2.0  # seconds
HEADING = ("refused command lines", "lines", "median, s", "longest, s", f"over {GOAL:g} s")


def main(wanted: Sequence[str]) -> int:
    """Measure, print a table by kind and the lines that take longest; the exit status."""
    sys.path.insert(0, str(ROOT / "tests"))
    corpus, hostile = (import_module(f"support.{name}") for name in ("command_lines", "hostile_files"))

    rows, slowest = [], []
    with tempfile.TemporaryDirectory() as place:
        files = hostile.make_all(Path(place) / "files")
        for kind in corpus.CORPUS:
            found = [
                (
                    _seconds(entry, corpus.words_of(line["words"], files), line.get("exit", 2), Path(place)),
                    f"{entry}: {line['words']}",
                )
                for entry, line in corpus.pairs(kind)
                if not wanted or any(part in line["words"] for part in wanted)
            ]
            if found:
                taken = [each for each, _ in found]
                over = sum(each > GOAL for each in taken)
                rows.append([kind, str(len(found)), f"{median(taken):.2f}", f"{max(taken):.2f}", str(over)])
                slowest += found
    print(markdown(HEADING, rows))
    print("\nThe slowest:")
    for seconds, words in sorted(slowest, reverse=True)[:10]:
        print(f"  {seconds:.2f} s  {words}")
    return 0


def _seconds(entry: str, words: Sequence[str], status: int, place: Path) -> float:
    """The time of one process, which must end with that exit status."""
    empty = Path(tempfile.mkdtemp(dir=place))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", f"experiments.{entry}", *words]
    ended: list[subprocess.CompletedProcess[bytes]] = []

    def start() -> None:
        ended.append(subprocess.run(command, cwd=empty, env=environment, capture_output=True, check=False))

    seconds = timed(start)
    assert ended[0].returncode == status and not list(empty.iterdir()), f"{words}: {ended[0].stderr.decode()}"
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
