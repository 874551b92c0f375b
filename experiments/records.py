"""Records of many runs in one file, to keep or to share.

    python -m experiments.records pack outputs records.tar.xz [--compact] [--unfinished]
    python -m experiments.records unpack records.tar.xz outputs
    python -m experiments.records compare outputs again

`--compact` keeps what a report needs (see `tinylora.records.archive`): about a kilobyte a run. Unpacking again changes
nothing, and no run is ever overwritten; `python -m analysis.build --outputs-dir outputs` then makes the report.
`--unfinished` keeps runs that were stopped, too, with their states: unpacked elsewhere, the command of their sweep goes
on with them. `compare` says of runs that two folders have in common up to which step they are the same, bit for bit.
"""

from __future__ import annotations

import argparse
import sys

from experiments.command import leave, run_command
from tinylora.records import archive
from tinylora.records.compare import compare
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import UsageError
from tinylora.settings.paths import absolute


def main(arguments: list[str] | None = None) -> int:
    """Make an archive or restore one, say what was done; the exit status."""
    parser = CommandParser(prog="python -m experiments.records", description="Records of runs in one file.")
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="run folders into an archive")
    pack.add_argument("outputs", help="folder of the runs (outputs_dir)")
    pack.add_argument("archive", help="file to be written: <name>.tar.xz")
    pack.add_argument("--compact", action="store_true", help="keep what a report needs, without adapters")
    pack.add_argument("--unfinished", action="store_true", help="keep runs that were stopped, to go on elsewhere")
    unpack = commands.add_parser("unpack", help="an archive into run folders")
    unpack.add_argument("archive", help="file made by pack")
    unpack.add_argument("outputs", help="folder for the runs; made where there is none")
    both = commands.add_parser("compare", help="runs that were made twice, step by step; exit status 1 if any differs")
    both.add_argument("outputs", help="folder of runs (outputs_dir)")
    both.add_argument("again", help="folder of the same runs, made again")
    options = parser.parse_args(arguments)
    done = {"pack": _archive, "unpack": _restore, "compare": _compare}[options.command]
    return run_command(lambda: done(options))


def _archive(options: argparse.Namespace) -> None:
    outputs, file = absolute(options.outputs, "outputs"), absolute(options.archive, "archive")
    if not outputs.is_dir():
        raise UsageError(
            f"{outputs}: no such folder", "the runs of an outputs_dir are archived", "give the outputs_dir of runs"
        )
    done = archive.write(outputs, file, options.compact, options.unfinished)
    for reason in done.left_out:
        print(f"not archived: {reason}", file=sys.stderr)
    print(f"{done.runs} runs archived in {file} ({file.stat().st_size / 2**20:.2f} MiB)")


def _restore(options: argparse.Namespace) -> None:
    outputs, file = absolute(options.outputs, "outputs"), absolute(options.archive, "archive")
    done = archive.restore(file, outputs)
    print(f"{done.new} runs unpacked into {outputs}, {done.present} were there already")


def _compare(options: argparse.Namespace) -> int:
    one, other = absolute(options.outputs, "outputs"), absolute(options.again, "again")
    found = compare(one, other)
    if not found:
        given = f"{one} and {other} have no run in common"
        raise UsageError(given, "runs of the same settings are compared", "give the outputs_dir of both")
    for run in found:
        said = "the same bit for bit" if run.difference is None else f"differs: {run.difference}"
        print(f"{run.run_key}  {run.same} of {run.lines} lines are the same  {said}")
    return int(any(run.difference for run in found))


if __name__ == "__main__":
    leave(main)
