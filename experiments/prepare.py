"""Fetch and compute what a sweep needs, once, before its jobs: weights, tokenizers, data, bases.

    python -m experiments.prepare -m u=1,13,120,1000 model=qwen2.5-0.5b-instruct task=gsm8k

It takes the words of `experiments.run`; those of a launcher make no difference. Run it where there is a connection:
jobs on nodes without one then find everything in the caches (HF_HOME, TINYLORA_CACHE), which the nodes must see. It
checks what a run checks, and trains nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from experiments.command import leave, run_command
from experiments.compose.points import compose
from experiments.display import open_progress
from experiments.sweep import check
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.config import RunConfig

OF_LAUNCHERS = re.compile(r"(hydra/launcher=|\+*launcher\.|\+*cluster=)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the points of the command line's sweep; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="no difference: every command is of a sweep")
    parser.add_argument("overrides", nargs="*", help="settings, as for experiments.run")
    given = parser.parse_intermixed_args(arguments)
    return run_command(lambda: _prepare(given.overrides), interrupted="interrupted; the same command goes on")


def _prepare(overrides: Sequence[str]) -> None:
    composition = compose([word for word in overrides if not OF_LAUNCHERS.match(word)])
    points = composition.points
    for note in composition.notes:
        print(note, file=sys.stderr)

    from tinylora.models.find import digest, resolve_folder
    from tinylora.train.pack import prepare_basis

    with open_progress() as progress:
        for point in _different(points, lambda point: repr(point.model)):
            progress.phase(f"fetching {point.model.identity}")
            folder = resolve_folder(point.model)
            print(f"model {point.model.identity}: {folder}, digest {digest(folder, remember=True)}")
    check(points, in_jobs=True)
    for point in _different(points, lambda point: repr(point.task)):
        print(f"task {point.task.name}: its problems can be read")
    with open_progress() as progress:
        with_basis = [point for point in points if point.adapter.name.has_basis]
        for point in _different(with_basis, lambda point: repr((point.model, point.rank, point.adapter.solver))):
            prepare_basis(point, progress)
            print(f"basis of {point.model.identity}, rank {point.rank}: in the cache")


def _different(points: Sequence[RunConfig], key: Callable[[RunConfig], str]) -> list[RunConfig]:
    """The first point of each key."""
    return list({key(point): point for point in reversed(points)}.values())[::-1]


if __name__ == "__main__":
    leave(main)
