"""Cancel a submitted sweep: its jobs end, and what they have saved stays.

python -m experiments.cancel <sweep> [--outputs-dir outputs]

The command that submitted it submits what is unfinished again.
"""

from __future__ import annotations

import argparse

from experiments.command import add_outputs_dir, leave, require_folder, run_command
from experiments.jobs import ledger
from experiments.jobs.states import cancel
from tinylora.settings.command_parser import CommandParser


def main(arguments: list[str] | None = None) -> int:
    """Cancel, say what was done; the exit status."""
    parser = CommandParser(prog="python -m experiments.cancel", description="Cancel a submitted sweep.")
    parser.add_argument("sweep", help="id of the sweep, or its beginning")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _cancel(options))


def _cancel(options: argparse.Namespace) -> None:
    outputs = require_folder(options.outputs_dir)
    with ledger.locked(outputs):
        jobs = cancel(ledger.find(outputs, options.sweep))
    print(f"cancelled: {', '.join(jobs)}" if jobs else "no job of this sweep waits or runs")


if __name__ == "__main__":
    leave(main)
