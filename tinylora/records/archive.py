"""Records of many runs in one file: run folders in a tar.xz, without what training would continue from.

An archive holds `<run_key>/` with config.yaml, metrics.jsonl, summary.json and adapter.safetensors of every run that
has ended. Restored they are run folders again, which `import_runs` brings into MLflow. A compact archive leaves out the
adapters and, of the metrics of a step, all but evaluations and `CURVES`; no value is rounded. Where the runs lay and
where they were tracked is left out of every archive: it means nothing elsewhere, and an address may hold a password.
The same runs give the same bytes.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tinylora.records.folder import ADAPTER, CONFIG, METRICS, SUMMARY, Status, lines_of
from tinylora.records.reading import read_config, run_folders
from tinylora.settings.errors import FailureError, TinyLoraError, UsageError, first_line

FILES = (CONFIG, METRICS, SUMMARY, ADAPTER)
CURVES = ("train/reward", "train/completion_tokens", "train/prob_diff")
"""What a report draws against the step: kept in compact archives."""
EVALUATIONS = "eval/"
COMMAND = "python -m experiments.records pack"
MEMBER = re.compile(rf"([0-9a-f]{{12}})/({'|'.join(map(re.escape, FILES))})")
LARGEST = 256 * 2**20  # bytes of one file: nothing that a run records comes near it


@dataclass(frozen=True)
class Archived:
    """What went into an archive."""

    runs: int
    left_out: list[str]
    """Run keys of those that have not ended, and why others were left out."""


@dataclass(frozen=True)
class Restored:
    """What came out of one."""

    new: int
    present: int
    """Runs that were there already: left as they are."""


def write(outputs: Path, archive: Path, compact: bool = False) -> Archived:
    """Write the runs of a folder that have ended into an archive."""
    archived: dict[str, dict[str, bytes]] = {}
    left_out = []
    for path in run_folders(outputs):
        try:
            files = _files_of(path, outputs, compact)
        except (TinyLoraError, OSError, ValueError, KeyError, TypeError) as error:
            left_out.append(f"{path.name}: {first_line(error)}")
            continue
        if files is None:
            left_out.append(f"{path.name}: has not ended")
        else:
            archived[path.name] = files
    if not archived:
        raise UsageError(
            f"{outputs}: no run that has ended",
            "an archive is made of run folders",
            "give the outputs_dir of a sweep that has run",
        )
    _write_file(archive, archived)
    return Archived(len(archived), left_out)


def _files_of(path: Path, outputs: Path, compact: bool) -> dict[str, bytes] | None:
    """The files of a run that has ended, as they are kept; None for others."""
    summary = path / SUMMARY
    if not summary.exists() or not Status(json.loads(summary.read_bytes())["status"]).final:
        return None
    read_config(path, outputs)  # raises where it is damaged or another run's
    content = _yaml(path / CONFIG)
    content["config"]["outputs_dir"] = "outputs"
    content["config"]["tracking"]["uri"] = None
    files = {CONFIG: yaml.safe_dump(content, sort_keys=False).encode(), SUMMARY: summary.read_bytes()}
    if compact:
        return files | {METRICS: _compact_lines(path)}
    return files | {name: (path / name).read_bytes() for name in (METRICS, ADAPTER) if (path / name).exists()}


def _yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def _compact_lines(path: Path) -> bytes:
    """Every step of a run, with evaluations and `CURVES` alone."""
    kept = []
    for line in lines_of(path):
        metrics = {
            name: value for name, value in line.metrics.items() if name in CURVES or name.startswith(EVALUATIONS)
        }
        kept.append(json.dumps(asdict(line) | {"metrics": metrics}) + "\n")
    return "".join(kept).encode()


def _write_file(archive: Path, archived: dict[str, dict[str, bytes]]) -> None:
    """Write the archive under a temporary name, then put it in place."""
    part = archive.with_name(f"{archive.name}.part")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(part, "w:xz", format=tarfile.USTAR_FORMAT) as tar:
            for name in FILES:  # like beside like: a third smaller
                for key in sorted(key for key, files in archived.items() if name in files):
                    member = tarfile.TarInfo(f"{key}/{name}")
                    member.size = len(archived[key][name])
                    tar.addfile(member, io.BytesIO(archived[key][name]))
        part.replace(archive)
    except OSError as error:
        raise FailureError(
            f"{archive}: {error.strerror}",
            "the archive is written there",
            "give a path that can be written to and has room",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def read(archive: Path) -> dict[str, dict[str, bytes]]:
    """The files of each run, by run key; nothing is written. UsageError where it is no archive of records."""
    try:
        with tarfile.open(archive, "r:xz") as tar:
            runs: dict[str, dict[str, bytes]] = {}
            for key, name, content in _members(tar, archive):
                runs.setdefault(key, {})[name] = content
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UsageError(
            f"{archive}: {first_line(error)}",
            "records are kept in a tar.xz that is whole",
            f"make it again with {COMMAND}, or copy it again",
        ) from error
    except OSError as error:
        raise UsageError(
            f"{archive}: {error.strerror or error}",
            "records are unpacked from a file that can be read",
            f"give the path of one made by {COMMAND}",
        ) from error
    incomplete = [key for key, files in runs.items() if not {CONFIG, SUMMARY} <= set(files)]
    if incomplete or not runs:
        raise _foreign(archive, f"run {incomplete[0]} lacks {CONFIG} or {SUMMARY}" if incomplete else "it has no run")
    return runs


def _members(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Run key, name and content of every file. Nothing else may be in it: no link, no folder, no other path."""
    for member in tar:
        named = MEMBER.fullmatch(member.name)
        if not (named and member.isreg() and member.size <= LARGEST):
            raise _foreign(archive, f"it holds {member.name!r}")
        file = tar.extractfile(member)
        assert file is not None
        yield named[1], named[2], file.read()


def _foreign(archive: Path, why: str) -> UsageError:
    return UsageError(
        f"{archive}: {why}",
        f"an archive of records holds <run_key>/ with {', '.join(FILES)}",
        f"give one made by {COMMAND}; nothing was unpacked",
    )


def restore(archive: Path, outputs: Path) -> Restored:
    """Make run folders of an archive. Those that are there stay as they are; one of another run is refused."""
    runs = read(archive)
    staging = outputs / f".unpack-{os.getpid()}"
    present = {key for key in runs if (outputs / key).exists()}
    try:
        for key, files in runs.items():
            folder = staging / key
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            _require_own(folder, outputs, archive)
            if key in present:
                _require_same(folder, outputs / key)
        for key in sorted(set(runs) - present):
            (staging / key).rename(outputs / key)
    except OSError as error:
        raise FailureError(
            f"{outputs}: {error.strerror}",
            "run folders are unpacked there",
            "give a folder that can be written to and has room",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Restored(len(runs) - len(present), len(present))


def _require_own(folder: Path, outputs: Path, archive: Path) -> None:
    try:
        read_config(folder, outputs)
    except UsageError as error:
        what = error.given.replace(f"{folder.parent}/", "")
        raise UsageError(f"{archive}: {what}", error.rule, "make the archive again; nothing was unpacked") from error


def _require_same(new: Path, old: Path) -> None:
    """Refuse a folder that is there but holds another run."""
    try:
        same = _yaml(old / CONFIG)["scientific"] == _yaml(new / CONFIG)["scientific"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(
            f"{old} is there and is not run {new.name}",
            "no run is overwritten by another",
            "unpack into another folder, or move this one away; nothing was unpacked",
        )
