"""Digests of large files, remembered by path, size and times, so that a file that has not changed is not read again.

What is remembered lies in the cache folder and can be removed at any time. Training reads model files anew.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tinylora.settings import remembered

REMEMBERED = "digests.json"
SETTLED = 2.0  # seconds without a change, after which another change gives another time


def file_digest(path: Path, remember: bool = False) -> str:
    """64 hex digits over a file's content; with `remember` as it was when size and times were the same."""
    path = path.resolve()
    status = path.stat()
    facts = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    known = remembered.recall(REMEMBERED).get(str(path)) if remember else None
    if isinstance(known, list) and known[:-1] == facts:
        return str(known[-1])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if remember and time.time() - max(status.st_mtime, status.st_ctime) > SETTLED:
        remembered.remember(REMEMBERED, str(path), [*facts, digest])
    return digest
