"""Whether a run in an archive is whole, before it becomes a run folder; the same is asked of what goes into one."""

from __future__ import annotations

from pathlib import Path

from tinylora.records.damage import require_whole
from tinylora.records.digests import contradictions
from tinylora.records.evaluations import read_evaluations
from tinylora.records.folder import CONFIG, STATE, RunFolder, read_config, read_yaml
from tinylora.records.reading import UNREADABLE
from tinylora.settings.errors import UsageError


def check_run(path: Path) -> None:
    """Raise one of UNREADABLE where a run folder is not the whole record of a run, or what it continues from."""
    folder = RunFolder(read_config(path, path.parent))
    require_whole(folder)
    read_evaluations(path)  # raises where they are damaged
    status = folder.status()
    if (status is None or not status.final) and not (path / STATE).exists():
        rule = f"an archive holds runs that have ended, or have a {STATE} to continue from"
        raise UsageError(f"{path} has not ended", rule, "let it finish")


def check_same(new: Path, old: Path) -> None:
    """Raise UsageError where the run folder `old` is not the run `new`: other settings, another model, other data."""
    try:
        here, there = (read_yaml(folder / CONFIG) for folder in (old, new))
        if here["scientific"] != there["scientific"]:
            raise _other(old, f"{old} is there and is not run {new.name}")
        if differing := contradictions(_provenance(old), _provenance(new)):
            raise _other(old, f"{old} is there and was made with other files: {differing[0]}")
    except UsageError:
        raise
    except UNREADABLE as error:
        raise _other(old, f"{old} is there and is not run {new.name}: it cannot be read") from error


def _provenance(folder: Path) -> dict[str, object]:
    provenance = read_yaml(folder / CONFIG)["provenance"]
    if not isinstance(provenance, dict):
        raise UsageError(f"{folder / CONFIG} is damaged", "it says what a run was made with", "restore it")
    return provenance


def _other(old: Path, given: str) -> UsageError:
    return UsageError(
        given,
        "no run is overwritten by another",
        f"unpack into another folder, or move {old.name} away; nothing was unpacked",
    )
