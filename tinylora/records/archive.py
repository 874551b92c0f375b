"""Records of many runs in one file: run folders in a tar.xz.

An archive holds `<run_key>/` with config.yaml, metrics.jsonl, items.jsonl, samples.jsonl.gz, v.jsonl, summary.json,
adapter.safetensors and evaluations.jsonl of every run that has ended. Restored they are run folders again, which
`import_runs` brings into MLflow. A compact archive leaves out the adapters, v, the samples and, of the metrics of a
step, all but evaluations and `CURVES`; no value is rounded. Runs that have not ended are left out, or kept whole with
state.safetensors, from which their training continues wherever they are unpacked.
Where runs and their files lay, and where they were tracked, is left out of every archive: it means nothing elsewhere,
and an address may hold a password.
The same runs give the same bytes.

An archive may come from anyone. It is read as a stream (`archive_stream`), unpacked beside the run folders, and checked
there, run by run (`archive_check`). It is put in place when all of it is right; else nothing of it stays.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from tinylora.records.archive_check import check_run, check_same
from tinylora.records.archive_stream import FILES, check_size, foreign, members
from tinylora.records.evaluations import EVALUATIONS
from tinylora.records.folder import (
    ADAPTER,
    CONFIG,
    ITEMS,
    METRICS,
    STATE,
    SUMMARY,
    RunFolder,
    Status,
    lines_of,
    read_config,
    read_yaml,
    run_folders,
)
from tinylora.records.kept import KEPT
from tinylora.records.reading import UNREADABLE, why_unreadable
from tinylora.records.samples import SAMPLES
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import fsync_folder, held
from tinylora.settings.leftovers import LOCK, UNPACKING, clear_files, clear_outputs, temporary

CURVES = ("train/reward", "train/completion_tokens", "train/prob_diff", "train/token_entropy")
"""What a report draws against the step: kept in compact archives."""
OF_EVALUATIONS = "eval/"
TRAINING = (METRICS, ITEMS, EVALUATIONS, SAMPLES, KEPT)  # what a run has written when it stops


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


def write(outputs: Path, archive: Path, compact: bool = False, unfinished: bool = False) -> Archived:
    """Write the runs of a folder that have ended into an archive, and, where asked for, those that wait to go on."""
    archived: dict[str, dict[str, bytes]] = {}
    left_out = []
    for path in run_folders(outputs):
        try:
            files = _files_of(path, compact) if _ended(path) else _unfinished(path) if unfinished else None
        except UNREADABLE as error:
            left_out.append(f"{path.name}: {why_unreadable(error)}")
            continue
        if files is None:
            left_out.append(f"{path.name}: has not ended" + (", and has no state" if unfinished else ""))
        else:
            archived[path.name] = files
    if not archived:
        raise UsageError(
            f"{outputs}: no run that has ended" + (f" and can be kept ({left_out[0]})" if left_out else ""),
            "an archive is made of run folders that are whole",
            "give the outputs_dir of a sweep that has run",
        )
    _write_file(archive, archived)
    return Archived(len(archived), left_out)


def _ended(path: Path) -> bool:
    summary = path / SUMMARY
    return summary.exists() and Status(json.loads(summary.read_bytes())["status"]).final


def _unfinished(path: Path) -> dict[str, bytes] | None:
    """The files of a run that goes on from a state; None without one. FailureError where it is trained now."""
    if not (path / STATE).exists():
        return None
    with RunFolder(read_config(path, path.parent)).locked():
        return _files(path, (SUMMARY, *TRAINING, STATE))


def _files_of(path: Path, compact: bool) -> dict[str, bytes]:
    """The files of a run that has ended, as they are kept. Raises one of UNREADABLE."""
    files = _files(path, (SUMMARY, ITEMS, EVALUATIONS) if compact else (SUMMARY, *TRAINING, ADAPTER))
    if compact:
        files[METRICS] = _compact_lines(path)
        check_size(METRICS, len(files[METRICS]))
    return files


def _files(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The settings without places of this machine, and those of the files that there are."""
    check_run(path)
    content = read_yaml(path / CONFIG)
    content["config"]["outputs_dir"] = "outputs"
    content["config"]["tracking"]["uri"] = None
    for group, name in (("model", "path"), ("model", "chat_template"), ("task", "folder")):
        if (given := content["config"][group].get(name)) is not None:
            content["config"][group][name] = Path(given).name or given
    files = {CONFIG: yaml.safe_dump(content, sort_keys=False).encode()}
    files |= {name: (path / name).read_bytes() for name in names if (path / name).exists()}
    for name, text in files.items():
        check_size(name, len(text))
    return files


def _compact_lines(path: Path) -> bytes:
    """Every step of a run, with evaluations and `CURVES` alone."""
    kept = []
    for line in lines_of(path):
        metrics = {n: value for n, value in line.metrics.items() if n in CURVES or n.startswith(OF_EVALUATIONS)}
        kept.append(json.dumps(asdict(line) | {"metrics": metrics}) + "\n")
    return "".join(kept).encode()


def _write_file(archive: Path, archived: dict[str, dict[str, bytes]]) -> None:
    part = temporary(archive)
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        clear_files(archive.parent)
        with tarfile.open(part, "w:xz", format=tarfile.USTAR_FORMAT) as tar:
            for name in FILES:  # like beside like: a third smaller
                for key in sorted(key for key, files in archived.items() if name in files):
                    member = tarfile.TarInfo(f"{key}/{name}")
                    member.size = len(archived[key][name])
                    tar.addfile(member, io.BytesIO(archived[key][name]))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(archive)
        fsync_folder(archive.parent)
    except OSError as error:
        raise FailureError(
            f"{archive}: {error.strerror}",
            "the archive is written there",
            "give a path that can be written to and has room",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def read(archive: Path) -> dict[str, dict[str, bytes]]:
    """The files of each run, by run key; nothing is written. UsageError where it is no archive of records.

    What the files hold is not looked at. They are all in memory: for archives of one's own.
    """
    runs: dict[str, dict[str, bytes]] = {}
    for key, name, content in members(archive):
        runs.setdefault(key, {})[name] = content
    _require_whole(archive, {key: set(files) for key, files in runs.items()})
    return runs


def _require_whole(archive: Path, runs: dict[str, set[str]]) -> None:
    incomplete = [key for key, files in runs.items() if CONFIG not in files or not files & {SUMMARY, STATE}]
    if incomplete or not runs:
        raise foreign(archive, f"run {incomplete[0]} lacks {CONFIG} or {SUMMARY}" if incomplete else "it has no run")


def restore(archive: Path, outputs: Path) -> Restored:
    """Make run folders of an archive. Those that are there stay as they are; one of another run is refused."""
    try:
        with _staging(outputs) as staging:
            runs: dict[str, set[str]] = {}
            for key, name, content in members(archive):
                (staging / key).mkdir(exist_ok=True)
                (staging / key / name).write_bytes(content)
                runs.setdefault(key, set()).add(name)
            _require_whole(archive, runs)
            present = {key for key in runs if (outputs / key).exists()}
            for key in sorted(runs):
                _check(staging / key, outputs, archive, present=key in present)
            for key in sorted(set(runs) - present):
                (staging / key).rename(outputs / key)
    except OSError as error:
        raise FailureError(
            f"{outputs}: {error.strerror}",
            "run folders are unpacked there",
            "give a folder that can be written to and has room",
        ) from error
    return Restored(len(runs) - len(present), len(present))


def _check(folder: Path, outputs: Path, archive: Path, present: bool) -> None:
    try:
        check_run(folder)
    except UNREADABLE as error:
        what = why_unreadable(error).replace(f"{folder.parent}/", "")
        raise UsageError(
            f"{archive}: {what if folder.name in what else f'{folder.name}: {what}'}",
            error.rule if isinstance(error, UsageError) else "an archive holds whole records of runs that have ended",
            "make the archive again; nothing was unpacked",
        ) from error
    if present:
        check_same(folder, outputs / folder.name)


@contextmanager
def _staging(outputs: Path) -> Iterator[Path]:
    """A folder beside the run folders, held while it is used; what was made for it is gone where it fails."""
    made = [path for path in (outputs, *outputs.parents) if not path.exists()]
    outputs.mkdir(parents=True, exist_ok=True)
    clear_outputs(outputs)
    staging = Path(tempfile.mkdtemp(prefix=UNPACKING, dir=outputs))
    try:
        with held(staging / LOCK):
            yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()
        raise
    shutil.rmtree(staging, ignore_errors=True)
