"""Small answers that took time to find, remembered in the cache folder: they can be removed at any time."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from tinylora.settings.files import cache_folder, write_part
from tinylora.settings.leftovers import clear_files, temporary

MOST = 2000  # answers in a file; the oldest go first


def recall(name: str) -> dict[str, Any]:
    """What the file of this name remembers, the oldest first; nothing where it is absent or damaged."""
    try:
        content = json.loads((cache_folder() / name).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def remember(name: str, key: str, answer: Any) -> None:
    """Add an answer, plain JSON values, to a file; nothing where it cannot be written."""
    known = recall(name)
    known.pop(key, None)
    kept = dict(list(known.items())[-MOST + 1 :]) | {key: answer}
    with suppress(OSError):  # it only saves time
        cache_folder().mkdir(parents=True, exist_ok=True)
        clear_files(cache_folder())
        part = temporary(cache_folder() / name)  # others may write at the same time
        write_part(part, json.dumps(kept).encode(), fsync=False)
        part.replace(cache_folder() / name)
