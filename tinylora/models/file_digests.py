"""Digests of large files, remembered by path, size and times, so that a file that has not changed is not read again.

What is remembered lies in the cache folder and can be removed at any time. Training reads model files anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

from tinylora.settings.files import cache_folder, write_part
from tinylora.settings.leftovers import clear_files, temporary

REMEMBERED = "digests.json"
MOST = 2000  # files
SETTLED = 2.0  # seconds without a change, after which another change gives another time


def file_digest(path: Path, remember: bool = False) -> str:
    """64 hex digits over a file's content; with `remember` as it was when size and times were the same."""
    path = path.resolve()
    status = path.stat()
    facts = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    known = _read() if remember else {}
    if known.get(str(path), [])[:-1] == facts:
        return str(known[str(path)][-1])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if remember and time.time() - max(status.st_mtime, status.st_ctime) > SETTLED:
        known.pop(str(path), None)
        _write(known | {str(path): [*facts, digest]})
    return digest


def _read() -> dict[str, list[int | str]]:
    """What is remembered, the oldest first; nothing where the file is absent or damaged."""
    try:
        content = json.loads((cache_folder() / REMEMBERED).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {path: facts for path, facts in content.items() if isinstance(facts, list)}


def _write(known: dict[str, list[int | str]]) -> None:
    kept = dict(list(known.items())[-MOST:])
    with suppress(OSError):  # it only saves time
        cache_folder().mkdir(parents=True, exist_ok=True)
        clear_files(cache_folder())
        part = temporary(cache_folder() / REMEMBERED)  # others may write at the same time
        write_part(part, json.dumps(kept).encode(), fsync=False)
        part.replace(cache_folder() / REMEMBERED)
