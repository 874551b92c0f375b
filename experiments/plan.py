"""What a sweep would cost, before anything is trained or downloaded.

    python -m experiments.plan -m +paper=table2 model=qwen2.5-7b-instruct
    python -m experiments.plan --sampled-per-s 20000 --trained-per-s 15000 u=1,13 model=qwen2.5-3b-instruct lr=1e-4
    python -m experiments.plan --device h100-80 +protocol=gsm8k_grpo model=qwen2.5-7b-instruct u=13 lr=1e-4
    python -m experiments.plan --write points.json -m +study=smollm2

The same overrides as for `experiments.run`. Points, packs, trained values and bytes, tokens, memory and hours; what has
ended in `outputs_dir` is not counted again. Of lr=search it is the next round. Speeds are those given, or measured in
finished runs of the same model there, or follow from the operations and --tflops: of --device a share of its documented
peak. Points that do not fit its memory are named, and not counted in the hours. `--write` writes the points into a
file, too, which `experiments.run --points` trains where Hydra is not installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields

from experiments.command import leave, run_command
from experiments.compose.points import compose
from experiments.compose.words import FOUND, SEARCH
from experiments.compose.written import write_points
from experiments.found import at_found_rates
from experiments.planning.capacity import UNKNOWN, require_memory
from experiments.planning.costs import Assumptions, plan
from experiments.planning.devices import DEVICES
from experiments.planning.packing import in_packs
from experiments.search import lines_of, standing
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.paths import absolute


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan of the command line's sweep, and write its points into a file if asked to; the exit status."""
    return run_command(lambda: _plan(*_arguments(arguments)))


def _plan(assumptions: Assumptions, given: str | None, overrides: Sequence[str]) -> None:
    file = None if given is None else absolute(given, "--write")
    composition = compose(overrides)
    points, notes = composition.points, list(composition.notes)
    if composition.rates == FOUND:
        points = at_found_rates(points)
    elif composition.rates == SEARCH:
        found = standing(points)
        points = found.points
        more = f"lr={SEARCH}: how many rounds follow this one depends on its scores"
        notes += [more] if points else [f"lr={SEARCH} is over", *lines_of(found)]
    require_memory(points, UNKNOWN)
    for line in [*plan(points, assumptions), *(f"note: {note}" for note in notes)]:
        print(line)
    if file is not None:
        write_points(file, points)
        print(f"{file}: {in_packs(points)}")


def _arguments(words: Sequence[str] | None) -> tuple[Assumptions, str | None, list[str]]:
    parser = CommandParser(
        prog="python -m experiments.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--sampled-per-s", type=float, help="tokens per second in rollouts, all lanes together")
    parser.add_argument("--trained-per-s", type=float, help="tokens per second in training, all lanes together")
    parser.add_argument("--response-tokens", type=int, help="mean length of a response")
    parser.add_argument("--tflops", type=float, help="teraflops per second that the device keeps up")
    parser.add_argument("--device", choices=DEVICES, help="where it would run, if not here")
    parser.add_argument("--device-gib", type=float, help="memory of the device, in GiB")
    parser.add_argument("--write", metavar="FILE", help="write the points into it, for experiments.run --points")
    parser.add_argument("-m", "--multirun", action="store_true", help="no difference: every plan is of a sweep")
    parser.add_argument("overrides", nargs="*", help="settings, as for experiments.run")
    given = parser.parse_intermixed_args(words)
    assumed = {field.name: getattr(given, field.name) for field in fields(Assumptions)}
    for name, value in assumed.items():
        if isinstance(value, int | float) and not value > 0:
            parser.error(f"--{name.replace('_', '-')} {value}: it must be above 0; leave it out or raise it")
    return Assumptions(**assumed), given.write, given.overrides


if __name__ == "__main__":
    leave(main)
