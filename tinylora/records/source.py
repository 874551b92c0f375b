"""Which sources a run is made with: their git commit, and whether they were changed since. Needs no PyTorch."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = "source.json"  # beside the packages in a copy of the sources: what they were copied from


@cache
def git_state() -> dict[str, Any]:
    """git_commit and git_dirty of these sources; "unknown" outside a checkout, as noted in a copy of one."""
    folder = Path(__file__).resolve().parents[1]
    if (folder.parent / SOURCE).is_file():
        noted: dict[str, Any] = json.loads((folder.parent / SOURCE).read_text(encoding="utf-8"))
        return noted

    def ask(*words: str) -> str | None:
        try:
            answer = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    changes = ask("status", "--porcelain", "--untracked-files=no")
    dirty = "unknown" if changes is None else changes != ""
    return {"git_commit": ask("rev-parse", "HEAD") or "unknown", "git_dirty": dirty}
