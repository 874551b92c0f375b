"""Finding run folders and reading their files, which may be damaged, cut by a kill, or of an earlier version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError, first_line
from tinylora.settings.given_files import json_of
from tinylora.settings.recorded import from_plain
from tinylora.settings.tensor_files import read_metadata

CONFIG = "config.yaml"
STATE, PREVIOUS, ADAPTER = "state.safetensors", "state.previous.safetensors", "adapter.safetensors"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError, TinyLoraError)
"""What reading a damaged file can raise: UnicodeDecodeError and JSON's errors are ValueErrors."""
Line = TypeVar("Line")
NESTED = 100  # levels: more than in any file that we write


class DamagedError(FailureError):
    """A file of a run folder is not what was written."""


def parse_lines(content: bytes, parse: Callable[[Any], Line]) -> tuple[list[Line], str | None]:
    """What `parse` makes of each line of JSON, up to the first that is not whole, and what is wrong there.

    `parse` raises ValueError where a line is not as it was written. A last line without an end is cut.
    """
    *texts, rest = content.split(b"\n")
    lines: list[Line] = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(parse(json_of(text)))
        except ValueError as error:
            return lines, f"line {number}: {error}"
    return lines, "its last line is cut" if rest else None


def saved_step(path: Path) -> int:
    """The step of a saved state; -1 where there is none. Reads the header alone."""
    try:
        return int(read_metadata(path)["step"])
    except UNREADABLE:
        return -1


def run_folders(outputs: Path) -> Iterator[Path]:
    """The folders of all runs that have begun."""
    for path in sorted(outputs.glob(f"*/{CONFIG}")):
        yield path.parent


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, by the faster loader where it is installed. Raises DamagedError."""
    try:
        content = path.read_bytes()
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        if _is_unusual(content):
            _require_flat(content, loader)
        return yaml.load(content, loader)
    except UNREADABLE as error:
        raise _damaged(path, error) from error


def _is_unusual(content: bytes) -> bool:
    """Whether YAML may be nested deeply or repeat parts of itself; to ask the parser takes as long as reading it."""
    if b"&" in content or content.count(b"[") + content.count(b"{") > NESTED:
        return True
    lines = (line for line in content.splitlines() if len(line) > NESTED)
    return any(len(line) - len(line.lstrip()) + line.count(b"- ") + line.count(b"? ") > NESTED for line in lines)


def _require_flat(content: bytes, loader: Any) -> None:
    """Raise ValueError for what would end the process (the loader overflows its stack) or never end."""
    depth = 0
    for event in yaml.parse(content, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > NESTED or isinstance(event, yaml.AliasEvent):
            raise ValueError("it is nested too deeply, or repeats parts of itself")


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(
        f"{path} is damaged: {first_line(error)}",
        "a run folder is read as it was written",
        f"restore the file, or remove the folder {path.parent} to train that run anew",
    )


def why_unreadable(error: Exception) -> str:
    """What reading a damaged record stumbled on, in a line."""
    if isinstance(error, TinyLoraError):
        return error.given
    said = first_line(error)[:200]
    return said if type(error) is ValueError else f"{type(error).__name__}: {said}"


def read_config(path: Path, outputs: Path) -> RunConfig:
    """The config of a run folder, as one in `outputs`, wherever it was made. Raises DamagedError."""
    return config_of(read_yaml(path / CONFIG), path, outputs)


def config_of(content: Any, path: Path, outputs: Path) -> RunConfig:
    """The config that the config.yaml of a run folder holds, as `read_config` gives it."""
    try:
        config = replace(_as_named(from_plain(content["config"]), content), outputs_dir=str(outputs))
    except UsageError as error:  # another version's
        raise DamagedError(f"{path / CONFIG}: {error.given}", error.rule, error.remedy) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path / CONFIG, error) from error
    if config.run_key != path.name:
        raise DamagedError(
            f"{path / CONFIG}: its settings are those of {config.run_key}",
            "a run folder has its run's key as name",
            "restore the file or the name",
        )
    return config


def _as_named(config: RunConfig, content: dict[str, Any]) -> RunConfig:
    """The config with what its record says of files that may lie elsewhere: its model's name, its template's digest.

    Both are part of its key. A model's folder may be a link, which leads on only where the run was made.
    """
    model, said = config.model, content.get("scientific", {}).get("model", {})
    if model.chat_template is not None and model.chat_template_digest is None and "chat_template" in said:
        model = replace(model, chat_template_digest=said["chat_template"])
    if model.path is not None and "name" in said and said["name"] != model.identity:
        model = replace(model, path=str(Path(model.path).with_name(said["name"])))
    return replace(config, model=model)
