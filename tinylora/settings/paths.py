"""Paths that a person gives, made absolute once, where they enter: `~` and `~user` expanded, links and `..` resolved.

Settings enter as a command line is composed (`as_entered`); other options and environment variables where they
are read. What a record says of paths stays as it was written: it may come from another machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tinylora.settings.errors import UsageError, first_line
from tinylora.settings.rules import require_path, shown, why_not_text

GGUF = ".gguf"
Settings = TypeVar("Settings")


def as_entered(group: Settings, prefix: str = "") -> Settings:
    """The settings of a RunConfig (or of one group) as they are kept of what a person gives. Raises UsageError."""
    changed: Settings = _changed(group, prefix, lambda text, name, enters: enters(text, name))
    return changed


def portable(group: Settings, folder: Path) -> Settings:
    """The same settings with the paths below a folder relative to it, for another machine's copy of that folder."""

    def below(text: str, name: str, enters: Callable[[str, str], str]) -> str:
        path = Path(text)
        return str(path.relative_to(folder)) if enters in (as_path, as_model_path) and folder in path.parents else text

    changed: Settings = _changed(group, "", below)
    return changed


def _changed(group: Any, prefix: str, change: Callable[[str, str, Callable[[str, str], str]], str]) -> Any:
    changes: dict[str, Any] = {}
    for each in fields(group):
        value, enters = getattr(group, each.name), each.metadata.get("enters")
        if is_dataclass(value):
            changes[each.name] = _changed(value, f"{prefix}{each.name}.", change)
        elif enters is not None and value is not None:
            changes[each.name] = change(value, f"{prefix}{each.name}", enters)
    changes = {name: value for name, value in changes.items() if value != getattr(group, name)}
    return replace(group, **changes) if changes else group


def absolute(given: str | Path, name: str) -> Path:
    """A given path as an absolute one. UsageError, which names the option or setting, where it can be none."""
    text = str(given)
    said, remedy = f"{name}={shown(text)}", f"give {name}=<another path>"
    _require_text(text, said, remedy)
    if text.startswith("~"):
        _require_home(said, text.partition("/")[0])
    try:
        path = Path(os.path.expanduser(text)).resolve()
    except (OSError, RuntimeError) as error:
        why = "its links lead back to themselves" if isinstance(error, RuntimeError) else first_line(error)
        raise UsageError(said, f"a path leads to one place: {why}", remedy) from error
    _require_text(str(path), said, remedy)
    require_path(name, str(path))
    return path


def _require_text(text: str, said: str, remedy: str) -> None:
    if (why := why_not_text(text)) is not None:
        raise UsageError(ascii(said)[1:-1], f"a path is {why}, and this one is {text!a}", remedy)


def as_path(text: str, name: str) -> str:
    """A path setting as it is kept: absolute. Raises UsageError."""
    return str(absolute(text, name))


def as_model_path(text: str, name: str) -> str:
    """The same for a model: a GGUF file keeps the name that is given, also of a link, which may lead to a digest."""
    path = Path(text)
    if path.suffix.lower() != GGUF:
        return as_path(text, name)
    whole = str(absolute(path.parent, name) / path.name)
    _require_text(whole, f"{name}={shown(text)}", f"give {name}=<another path>")
    require_path(name, whole)
    return whole


def end_without_surroundings() -> None:
    """End a command, with what to do, where its user has no home folder or its working folder is gone.

    Libraries look for both as they are imported.

    Of use where `python -m <module>` imports the package of the module, which is when `sys.argv[0]` is `-m`.
    """
    if sys.argv[:1] != ["-m"]:
        return
    try:
        _require_working_folder()
        _require_home(f"HOME={os.environ['HOME']}" if "HOME" in os.environ else "HOME is not set", "~")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None


def _require_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the working folder: {first_line(error)}",
            "paths that are not absolute begin there, and it does not exist any more",
            "change to a folder that exists",
        ) from error


def _require_home(said: str, user: str) -> None:
    """Raise UsageError unless `~`, or the `~name` of another user, stands for an absolute path."""
    home = os.path.expanduser(user)
    if user == "~" and (os.environ.get("HOME") == "" or not os.path.isabs(home)):
        raise UsageError(
            said,
            f"settings and caches of libraries, and ~, are looked for in the home folder; user {os.getuid()} has none",
            "set HOME=<absolute path of a folder>, such as HOME=/tmp",
        )
    if not os.path.isabs(home):
        raise UsageError(
            said,
            f"{user} stands for the home folder of a user that there is, and there is no {user[1:]}",
            f"write ~/<path> for your own; for a name that begins with ~, ./{user}",
        )
