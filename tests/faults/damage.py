"""Damages the file of a run folder as an entry of `damaged_folders.yaml` says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml


def apply(folder: Path, other: Path, entry: dict[str, Any]) -> None:
    """Damage a run folder; `other` is that of another run."""
    for name in entry["file"] if isinstance(entry["file"], list) else [entry["file"]]:
        _damage(folder / name, other / name, entry["do"])


def _damage(path: Path, other: Path, do: dict[str, Any]) -> None:
    (way, value), *more = do.items()
    if way in PLACES:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        PLACES[way](path, other, value)
    else:
        path.write_bytes(CONTENTS[way](path.read_bytes(), value, *[count for _, count in more]))


PLACES = {  # what takes the place of the file
    "replace": lambda path, _, text: path.write_text(text),
    "bytes": lambda path, _, digits: path.write_bytes(bytes.fromhex(digits)),
    "size": lambda path, _, count: path.write_bytes(bytes(count)),
    "nest": lambda path, _, words: path.write_bytes(nested(**words)),
    "folder": lambda path, _, __: path.mkdir(),
    "loop": lambda path, _, __: path.symlink_to(path),
    "dangling": lambda path, _, __: path.symlink_to(path.with_name("nowhere")),
    "other": lambda path, other, _: shutil.copy(other, path),
    "remove": lambda *_: None,
}


def nested(
    open: str = "", times: int = 0, before: str = "", after: str = "", hex_before: str = "", indented: int = 0
) -> bytes:
    """Something within something within something."""
    lines = "".join(" " * depth + "a:\n" for depth in range(indented))
    return bytes.fromhex(hex_before) + (before + open * times + lines + after).encode()


def cut(content: bytes, at: int) -> bytes:
    """The beginning of a file."""
    return content[:at]


def flipped(content: bytes, at: int) -> bytes:
    """The uppermost bit of one byte, so that text is no UTF-8 any more."""
    at %= len(content)
    return content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :]


def without_line(content: bytes, number: int) -> bytes:
    """All lines but one, counted from 1, or from the end."""
    lines = content.splitlines(keepends=True)
    del lines[number - 1 if number > 0 else number]
    return b"".join(lines)


def with_line(content: bytes, words: dict[str, Any]) -> bytes:
    """A line more; of `line` 1 it takes the place."""
    lines, at = content.splitlines(keepends=True), words["line"] - 1
    new = lines[words["again"] - 1] if "again" in words else words["text"].encode()
    return b"".join([*lines[: max(at, 0)], new, *lines[at if at > 0 else 1 :]])


def with_settings(content: bytes, values: dict[str, Any]) -> bytes:
    """Other values in YAML or JSON."""
    whole = yaml.safe_load(content)
    for name, value in values.items():
        _owner(whole, name)[name.rpartition(".")[2]] = value
    return _written(whole, content)


def without_setting(content: bytes, name: str) -> bytes:
    """A value less."""
    whole = yaml.safe_load(content)
    del _owner(whole, name)[name.rpartition(".")[2]]
    return _written(whole, content)


def _owner(whole: Any, name: str) -> Any:
    for part in name.split(".")[:-1]:
        whole = whole[part]
    return whole


def _written(whole: Any, before: bytes) -> bytes:
    is_json = before.lstrip().startswith(b"{")
    return (json.dumps(whole, indent=1) if is_json else yaml.safe_dump(whole, sort_keys=False)).encode()


def with_value(content: bytes, text: str, times: int = 1) -> bytes:
    """A metric of step 0 has another value."""
    return content.replace(b'"metrics": {', f'"metrics": {{"a/metric": {text * times}, '.encode(), 1)


def with_metric(content: bytes, name: str, times: int = 1) -> bytes:
    """Step 0 has a metric more."""
    return content.replace(b'"metrics": {', f'"metrics": {{"{name * times}": 1.0, '.encode(), 1)


def with_time(content: bytes, text: str) -> bytes:
    """Step 0 has another time."""
    return re.sub(rb'"time": [0-9.]+', f'"time": {text}'.encode(), content, count=1)


CONTENTS = {  # what the file then holds
    "cut": cut,
    "flip": flipped,
    "drop": without_line,
    "insert": with_line,
    "set": with_settings,
    "unset": without_setting,
    "value": with_value,
    "metric": with_metric,
    "time": with_time,
    "encode": lambda content, name: content.decode().encode(name),
    "crlf": lambda content, _: content.replace(b"\n", b"\r\n"),
}
