"""Import run folders into MLflow, as the only writer: after jobs that ran without a tracking server.

python -m experiments.sync [--outputs-dir outputs] [--rebuild]

As often as one likes: what is there already is not written again. `experiments.status` and `analysis.build` do it too,
but for runs of a tracking server, to which only this command brings what the server has missed.

`--rebuild` is for a store that is damaged: mlflow.db is kept as mlflow.db.damaged, and made anew from the run folders.
"""

from __future__ import annotations

import argparse
import sys

from experiments.command import add_outputs_dir, leave, require_folder, run_command
from tinylora.settings.command_parser import CommandParser


def main(arguments: list[str] | None = None) -> int:
    """Import, say what was done; the exit status."""
    parser = CommandParser(prog="python -m experiments.sync", description="Run folders into MLflow.")
    parser.add_argument("--rebuild", action="store_true", help="keep mlflow.db under another name and make it anew")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _sync(options))


def _sync(options: argparse.Namespace) -> int:
    outputs = require_folder(options.outputs_dir)

    from tinylora.records.import_runs import rebuild, sync

    if options.rebuild:
        for done in rebuild(outputs) or ["there is no store to set aside"]:
            print(done)
    synced = sync(outputs, servers=True)
    for problem in synced.problems:
        print(f"not imported: {problem}", file=sys.stderr)
    print(f"{synced.runs} runs are in MLflow as in their folders")
    return 1 if synced.problems else 0


if __name__ == "__main__":
    leave(main)
