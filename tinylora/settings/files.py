"""Files that a kill at any moment leaves whole, and locks that one process holds at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tinylora.settings.errors import FailureError, first_line


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under a temporary name, then renamed."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


@contextmanager
def held(lock: Path, seconds: float = -1, busy: Exception | None = None) -> Iterator[None]:
    """Hold a lock file, after waiting at most so many seconds for another holder (-1: as long as it takes).

    The operating system lets go of the lock of a process that has ended, however it ended. Raises `busy` (else
    filelock.Timeout) where it stays held, FailureError where the folder cannot be written to or its file system has no
    such locks.
    """
    try:
        taken = FileLock(lock, timeout=seconds, fallback_to_soft=False).acquire(poll_interval=0.05)
    except Timeout as error:
        raise busy or error from None
    except (OSError, NotImplementedError) as error:
        raise FailureError(
            f"{lock}: {first_line(error)}",
            "one process at a time writes here, which it makes sure of with a file lock (flock)",
            "give an outputs_dir that can be written to, on a file system with locks (NFS: mounted without nolock)",
        ) from error
    with taken:
        yield
