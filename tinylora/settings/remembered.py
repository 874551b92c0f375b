"""Small answers that took time to find, remembered in the cache folder: they can be removed at any time."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinylora.settings.files import cache_folder, write_part
from tinylora.settings.leftovers import clear_files, temporary

MOST = 2000  # answers in a file; the oldest go first


def recall(name: str) -> dict[str, Any]:
    """What the file of this name in the cache folder remembers, the oldest first; nothing where it is damaged."""
    return recall_file(cache_folder() / name)


def recall_file(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where it is absent or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def remember(name: str, key: str, answer: Any) -> None:
    """Add an answer, plain JSON values, to a file; nothing where it cannot be written."""
    known = recall(name)
    known.pop(key, None)
    remember_file(cache_folder() / name, dict(list(known.items())[-MOST + 1 :]) | {key: answer})


def remember_file(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object into a file, all of it at once; nothing where it cannot be written."""
    with suppress(OSError):  # it only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_files(path.parent)
        part = temporary(path)  # others may write at the same time
        write_part(part, json.dumps(content).encode(), fsync=False)
        part.replace(path)
