"""Files that a kill at any moment leaves whole, and locks that one process holds at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tinylora.settings.errors import FailureError, first_line
from tinylora.settings.paths import absolute

CACHE_VARIABLE = "TINYLORA_CACHE"

Content = bytes | tuple[bytes | memoryview, ...]
"""What a file holds, or the pieces of it in order."""


def write_atomically(path: Path, content: Content, fsync: bool = True) -> None:
    """Write a file whole or not at all: under a temporary name, then renamed.

    With `fsync` content and name are on the disk when this returns, so that a power cut does not lose them.
    """
    part = path.with_name(f"{path.name}.part")
    write_part(part, content, fsync)
    os.replace(part, path)
    if fsync:
        fsync_folder(path.parent)


def write_part(part: Path, content: Content, fsync: bool = True) -> None:
    """Write a file that is to be renamed: its content is on the disk before its new name is."""
    with part.open("wb") as file:
        file.writelines(content if isinstance(content, tuple) else (content,))
        if fsync:
            file.flush()
            os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; nothing where its file system cannot do that for a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """Where models are converted and bases computed once for all outputs_dir: TINYLORA_CACHE, or ~/.cache/tinylora.

    Raises UsageError where that is no path.
    """
    return absolute(os.environ.get(CACHE_VARIABLE) or "~/.cache/tinylora", CACHE_VARIABLE)


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
