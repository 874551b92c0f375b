"""Import run folders into MLflow, as the only writer: after jobs that ran without a tracking server.

python -m experiments.sync [--outputs-dir outputs]

As often as one likes: what is there already is not written again. `experiments.status` and `analysis.build` do it too,
but for runs of a tracking server, to which only this command brings what the server has missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tinylora.settings.errors import TinyLoraError, UsageError


def main(arguments: list[str] | None = None) -> int:
    """Import, say what was done; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sync", description="Run folders into MLflow.")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    try:
        require_folder(options.outputs_dir)

        from tinylora.records.import_runs import sync

        synced = sync(options.outputs_dir, servers=True)
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    for problem in synced.problems:
        print(f"not imported: {problem}", file=sys.stderr)
    print(f"{synced.runs} runs are in MLflow as in their folders")
    return 1 if synced.problems else 0


def add_outputs_dir(parser: argparse.ArgumentParser) -> None:
    """The option that says where everything lies."""
    parser.add_argument("--outputs-dir", type=Path, default=Path("outputs"), help="folder of the runs (%(default)s)")


def require_folder(outputs: Path) -> None:
    """Raise UsageError where nothing was run."""
    if not outputs.is_dir():
        raise UsageError(
            f"--outputs-dir {outputs}: no such folder",
            "runs lie in the outputs_dir they were given",
            "give --outputs-dir of a sweep that was started",
        )


if __name__ == "__main__":
    sys.exit(main())
