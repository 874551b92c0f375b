"""The report and MLflow's pages in a browser, for as long as this runs.

    python -m experiments.ui [--outputs-dir outputs] [--reports reports] [--port 5000]

MLflow's server listens on this machine alone. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from experiments.command import add_outputs_dir, leave, require_folder, run_command
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import UsageError
from tinylora.settings.paths import absolute
from tinylora.settings.store_urls import STORE, url_of

PAGE = "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Show both until the server ends; the exit status."""
    parser = CommandParser(prog="python -m experiments.ui", description="The report and MLflow's pages in a browser.")
    parser.add_argument("--reports", default="reports", help="folder of the report (%(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="of MLflow's server (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only say the addresses")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options), interrupted="")


def _show(options: argparse.Namespace) -> int:
    outputs = require_folder(options.outputs_dir)
    if not (outputs / STORE).is_file():
        raise UsageError(
            f"{outputs / STORE}: no such file",
            "MLflow's pages show the store that a sweep makes beside its runs",
            "run a sweep first, or write its run folders into a store: `python -m experiments.sync`",
        )
    server = f"http://127.0.0.1:{options.port}"
    pages = [page.as_uri() for page in [_report(options.reports)] if page is not None] + [server]
    command = ["-m", "mlflow", "server", "--backend-store-uri", url_of(outputs / STORE)]
    process = subprocess.Popen([sys.executable, *command, "--host", "127.0.0.1", "--port", str(options.port)])
    print("\n".join(pages), flush=True)
    try:
        for page in [] if options.no_browser else pages:
            webbrowser.open(page)
        return process.wait()
    finally:
        process.terminate()
        process.wait()


def _report(reports: str) -> Path | None:
    """The page of a report; None, which is said, where there is none yet."""
    page = absolute(reports, "--reports") / PAGE
    if page.is_file():
        return page
    print(f"{page}: no report yet; `python -m analysis.build` makes one", file=sys.stderr)
    return None


if __name__ == "__main__":
    leave(main)
