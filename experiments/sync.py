"""Import run folders into MLflow, as the only writer: after jobs that ran without a tracking server.

python -m experiments.sync [--outputs-dir outputs]

As often as one likes: what is there already is not written again. `experiments.status` and `analysis.build` do it too,
but for runs of a tracking server, to which only this command brings what the server has missed.
"""

from __future__ import annotations

import argparse
import sys

from experiments.command import add_outputs_dir, leave, require_folder, run_command


def main(arguments: list[str] | None = None) -> int:
    """Import, say what was done; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sync", description="Run folders into MLflow.")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _sync(options))


def _sync(options: argparse.Namespace) -> int:
    require_folder(options.outputs_dir)

    from tinylora.records.import_runs import sync

    synced = sync(options.outputs_dir, servers=True)
    for problem in synced.problems:
        print(f"not imported: {problem}", file=sys.stderr)
    print(f"{synced.runs} runs are in MLflow as in their folders")
    return 1 if synced.problems else 0


if __name__ == "__main__":
    leave(main())
