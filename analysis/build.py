"""Build the paper's tables and figures, and those of any other sweep, from MLflow records.

python -m analysis.build [--outputs-dir outputs | --uri URI] [--experiment tinylora] [--out reports]
                         [--only figure4,table2] [--format pdf,svg,png] [--open]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import FORMATS, NAMES, SIZE_LABELS
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import TinyLoraError, UsageError
from tinylora.settings.interrupts import INTERRUPTED
from tinylora.settings.leftovers import clear_files, temporary
from tinylora.settings.paths import absolute
from tinylora.settings.store_urls import STORE, as_store, url_of
from tinylora.settings.streams import printing

if TYPE_CHECKING:
    from rich.progress import Progress

    from analysis.page.report import Report


def main(arguments: list[str] | None = None) -> int:
    """Build the report and print what the sweep found; the exit status."""
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _build(_parse(arguments))
    except KeyboardInterrupt:
        print("interrupted; the last report is as it was", file=sys.stderr)
        return INTERRUPTED


def _build(options: argparse.Namespace) -> int:
    try:
        out, outputs = absolute(options.out, "--out"), absolute(options.outputs_dir, "--outputs-dir")
        uri = None if options.uri is None else as_store(options.uri, "--uri")
        only = _words("--only", options.only, NAMES)
        formats = _words("--format", options.format, FORMATS)
        _require_folder(out)
        damaged = {} if uri else import_run_folders(outputs, outputs / STORE)
        made, page = _written(uri or url_of(outputs / STORE), damaged, only, formats, options, out)
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    from analysis.page import terminal

    print("\n".join([*terminal.lines_of(made), f"report: {page}"]))
    if options.open:
        webbrowser.open(page.as_uri())
    return 0


def _written(
    store: str,
    damaged: dict[str, str],
    only: tuple[str, ...],
    formats: tuple[str, ...],
    options: argparse.Namespace,
    out: Path,
) -> tuple[Report, Path]:
    """Read the records, make the report and write it; its page."""
    with _progress() as progress:
        task = progress.add_task("reading the records", total=1.0)
        from analysis.page import rendering, report  # seconds of imports
        from analysis.records import load

        records = load.load(store, options.experiment, damaged)

        def tell(what: str, done: float) -> None:
            progress.update(task, description=what, completed=done)

        made = report.make_report(records, only, formats, options.x, tell)
        files = report.files_of(made)
        if made.whole and not (out / rendering.LIBRARY).exists():
            tell("charts", 0.9)
            files[rendering.LIBRARY] = rendering.library()
        write_files(out, files)
    return made, out / (rendering.PAGE if made.whole else rendering.ONLY)


def _progress() -> Progress:
    """What is made, and how long still: on a terminal alone."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(prog="python -m analysis.build", description="Tables and figures of a sweep.")
    parser.add_argument("--uri", help="MLflow tracking URI (default: the SQLite store in --outputs-dir)")
    parser.add_argument("--experiment", default="tinylora", help="MLflow experiment (default: %(default)s)")
    parser.add_argument("--outputs-dir", default="outputs", help="folder of the sweep's runs")
    parser.add_argument(
        "--only",
        default=",".join(NAMES),
        metavar="ITEMS",
        help=f"these and nothing else, on a page of their own, with commas between: {', '.join(NAMES)}",
    )
    parser.add_argument("--format", default="pdf,svg", help="of the figures: pdf, svg, png (default: %(default)s)")
    parser.add_argument(
        "--x", choices=tuple(SIZE_LABELS), default="trained_values", help="sizes (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="show the page in a browser")
    parser.add_argument("--out", default="reports", help="folder of the report (default: %(default)s)")
    return parser.parse_args(arguments)


def import_run_folders(outputs: Path, store: Path) -> dict[str, str]:
    """Write the run folders in `outputs` into the store beside them: jobs without a server write only their folders.

    This is what `experiments.sync` does. Runs that the store holds as they ended are not written again. Returned are
    the runs whose folders are damaged, and why.
    """
    from analysis.records import stores
    from tinylora.records.folder import run_folders
    from tinylora.records.import_runs import sync

    folders = list(run_folders(outputs))
    if not folders:
        return {}
    held = stores.ended_runs(store)
    new = [folder for folder in folders if _ended_as(folder) is None or _ended_as(folder) != held.get(folder.name)]
    if new:
        print(f"importing {len(new)} runs of {outputs} into MLflow (as experiments.sync does)", flush=True)
    synced = sync(outputs)
    for problem in synced.problems:
        print(f"not imported into MLflow: {problem}", file=sys.stderr)
    return synced.damaged


def _ended_as(folder: Path) -> str | None:
    """The status in which a run ended; None where it has not, or where its summary cannot be read."""
    from tinylora.records.folder import SUMMARY

    try:
        return str(json.loads((folder / SUMMARY).read_bytes())["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _words(option: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    """The words of a list with commas, each one of the known ones."""
    words = tuple(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        raise UsageError(
            f"{option} {given}: {', '.join(unknown) or 'nothing'} is not known",
            f"known are {', '.join(known)}",
            f"give {option} of these, with commas between",
        )
    return words


def _require_folder(out: Path) -> None:
    """Fail before the work, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        clear_files(out)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def write_files(out: Path, files: dict[str, bytes]) -> None:
    """Write all files under temporary names, then put them in place: a failure leaves the last report whole."""
    written: list[tuple[Path, Path]] = []
    try:
        for name, content in files.items():
            made = temporary(out / name)
            written.append((made, out / name))
            made.write_bytes(content)
        for made, final in written:
            made.replace(final)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        for made, _ in written:
            made.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(
        f"--out {out}: {error.strerror}",
        "the report is written to a folder of yours",
        "give --out of a folder that can be written to",
    )


if __name__ == "__main__":
    sys.exit(printing(main))
