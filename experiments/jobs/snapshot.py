"""A copy of the sources, with which jobs run: editing the checkout does not change what is queued.

code/                tinylora/, experiments/, analysis/, hydra_plugins/, conf/ as they are now
code/source.json     commit, and whether there were changes (see `tinylora.records.source`)
code/changes.diff    the changes of tracked files against that commit
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tinylora.records.source import SOURCE, git_state

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tinylora", "experiments", "analysis", "hydra_plugins", "conf", "pyproject.toml")
CHANGES = "changes.diff"


def take(target: Path) -> dict[str, Any]:
    """Copy the sources to `target`; returns what they are a copy of: git_commit and git_dirty."""
    for file in _files():
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy)
    source = git_state()
    (target / SOURCE).write_text(json.dumps(source) + "\n", encoding="utf-8")
    changes = _git("diff", "HEAD", "--", *PARTS)
    if changes:
        (target / CHANGES).write_bytes(changes)
    return source


def _files() -> list[Path]:
    """What git tracks or would track, where this is a checkout; all but caches where it is installed."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS)
    if listed:
        files = [Path(name.decode()) for name in listed.split(b"\0") if name]
    else:
        present = [ROOT / part for part in PARTS if (ROOT / part).exists()]
        files = [file.relative_to(ROOT) for part in present for file in (part.rglob("*") if part.is_dir() else [part])]
        files = [file for file in files if "__pycache__" not in file.parts]
    return [file for file in files if (ROOT / file).is_file()]


def _git(*words: str) -> bytes:
    """What git says in the sources' own checkout; nothing where they are none."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
