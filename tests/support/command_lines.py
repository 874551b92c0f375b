"""The corpus of wrong command lines, `tests/faults/command_lines.yaml`, and the words that each stands for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[1] / "faults" / "command_lines.yaml"
CORPUS: dict[str, list[dict[str, Any]]] = yaml.safe_load(FILE.read_text())
ENTRIES = {"run": ("run",), "plan": ("plan",), "both": ("run", "plan")}


def pairs(kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a kind, each with the commands that it is for."""
    assert all(line.keys() <= {"words", "says", "by", "exit"} for line in CORPUS[kind]), (
        "a word with a comma needs quotes"
    )
    return [(entry, line) for line in CORPUS[kind] for entry in ENTRIES[line.get("by", "run")]]


def words_of(line: str, files: Path) -> list[str]:
    """The words of a line; `files` is the folder of `support.hostile_files`."""
    gsm8k = "task=gsm8k lr=1 rollout.max_new_tokens=8"
    names = {
        "{data}": f"{gsm8k} task.folder={files}/good-data",
        "{gsm8k}": f"{gsm8k} model.chat_template={files}/good.jinja",
        "{files}": str(files),
        "{long}": "a" * 5000,
        "{digits}": "1" * 5000,
        "{brackets}": "[" * 5000,
        "{nested}": "{a:" * 30 + "1" + "}" * 30,
    }
    for name, meant in names.items():
        line = line.replace(name, meant)
    return shlex.split(line)
