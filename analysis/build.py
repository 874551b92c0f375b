"""Build every table and figure of a sweep from its MLflow records.

python -m analysis.build [--uri URI] [--experiment NAME] [--outputs-dir outputs] [--out reports]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from analysis import load, report
from tinylora.errors import TinyLoraError, UsageError
from tinylora.sync import run_folders, sync


def main(arguments: list[str] | None = None) -> int:
    """Build the report and print what the sweep found; the exit status."""
    options = _parse(arguments)
    uri = options.uri or f"sqlite:///{(options.outputs_dir / 'mlflow.db').resolve()}"
    try:
        _require_folder(options.out)
        if options.uri is None:
            _import_run_folders(options.outputs_dir)
        files = report.make_files(load.load(uri, options.experiment))
        write_files(options.out, files)
    except TinyLoraError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(files["summary.md"].decode())
    print(f"report: {options.out / 'index.html'}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m analysis.build", description="Tables and figures of a sweep.")
    parser.add_argument("--uri", help="MLflow tracking URI (default: the SQLite store in --outputs-dir)")
    parser.add_argument("--experiment", default="tinylora", help="MLflow experiment (default: %(default)s)")
    parser.add_argument("--outputs-dir", type=Path, default=Path("outputs"), help="folder of the sweep's runs")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the report (default: %(default)s)")
    return parser.parse_args(arguments)


def _import_run_folders(outputs: Path) -> None:
    """Runs whose jobs wrote nothing but their folders are put into the store first."""
    if next(run_folders(outputs), None) is not None:
        for problem in sync(outputs).problems:
            print(f"not imported into MLflow: {problem}", file=sys.stderr)


def _require_folder(out: Path) -> None:
    """Fail before the work, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def write_files(out: Path, files: dict[str, bytes]) -> None:
    """Write all files under temporary names, then put them in place: a failure leaves the last report whole."""
    written: list[tuple[Path, Path]] = []
    try:
        for name, content in files.items():
            temporary = out / f".{name}.{os.getpid()}.tmp"
            written.append((temporary, out / name))
            temporary.write_bytes(content)
        for temporary, final in written:
            temporary.replace(final)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(f"--out {out}: {error.strerror}", "the report is written to a folder of yours",
                      "give --out of a folder that can be written to")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
