"""Whether a folder can be written to, asked before anything is started."""

from __future__ import annotations

from pathlib import Path

from tinylora.settings.errors import FailureError
from tinylora.settings.leftovers import clear_files, temporary


def require_writable(folder: Path, named: str = "outputs_dir") -> None:
    """Raise FailureError where a folder, given as `named`, cannot be written to. What dead processes left is gone."""
    probe = temporary(folder / "write-test")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_files(folder)
        try:
            probe.write_bytes(b"tinylora")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise FailureError(
            f"{named}={folder}: {error.strerror}",
            "all that is made goes there",
            f"give a folder that can be written to and has room: {named}=<folder>",
        ) from error
