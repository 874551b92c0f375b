"""How submitted sweeps stand: from the run folders and squeue, without accounting.

python -m experiments.status [sweep] [--watch | --json] [--outputs-dir outputs]

Without an id, all sweeps. Exit status: 0 all runs finished, wait or run; 1 something failed, was lost or cancelled.
"""

from __future__ import annotations

import argparse

from experiments.command import add_outputs_dir, leave, require_folder, run_command
from experiments.jobs import ledger
from experiments.jobs.watch import import_runs, look, print_json
from tinylora.settings.command_parser import CommandParser


def main(arguments: list[str] | None = None) -> int:
    """Print how the sweeps stand; the exit status."""
    parser = CommandParser(prog="python -m experiments.status", description="How submitted sweeps stand.")
    parser.add_argument("sweep", nargs="?", help="id of a sweep, or its beginning (default: all)")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--watch", action="store_true", help="look again every few seconds until all jobs have ended")
    ways.add_argument("--json", action="store_true", help="for tools: one JSON object a run, each on a line")
    parser.add_argument("--no-sync", dest="sync", action="store_false", help="do not import run folders into MLflow")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _status(options), interrupted="")  # Ctrl-C is how watching ends


def _status(options: argparse.Namespace) -> int:
    outputs = require_folder(options.outputs_dir)
    known = ledger.all_sweeps(outputs)
    chosen = [ledger.find(outputs, options.sweep)] if options.sweep else known
    states = print_json(chosen, known) if options.json else look(chosen, options.watch, known)
    if options.sync:
        import_runs(outputs)
    return 1 if any(state.state.bad for lanes in states for state in lanes) else 0


if __name__ == "__main__":
    leave(main)
