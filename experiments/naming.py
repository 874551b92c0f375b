"""Runs as a person names them: by a folder, by the beginning of a key, by the folder or id of their sweep."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.jobs import ledger
from tinylora.records.folder import CONFIG, read_config, run_folders
from tinylora.records.progress import labels
from tinylora.records.reading import UNREADABLE, why_unreadable
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.paths import absolute

LISTED = 12  # of what there is, in an error


def find_runs(given: str, outputs_dir: str) -> list[Path]:
    """The run folders that are meant. Raises UsageError where there is none, or not one run or sweep alone."""
    path = absolute(given, "runs")
    if given and path.is_dir():
        if (path / CONFIG).is_file():
            return [path]
        found = list(run_folders(path))
        if not found and (path / ledger.SWEEP).is_file():
            found = _of_sweep(ledger.read(path))
        if not found and (path / "config.json").is_file():
            raise UsageError(
                f"{path}: a model, not a run",
                f"a run has a {CONFIG} in its folder; this has the config.json of a model, such as a merged one",
                f"to evaluate or train the model: `python -m experiments.run model.path={path} ...`",
            )
        if not found:
            raise UsageError(
                f"{path}: no run", f"a run has a {CONFIG} in its folder", "give the folder of a run or of its sweep"
            )
        return found
    outputs = absolute(outputs_dir, "--outputs-dir")
    places = {folder.name: [folder] for folder in run_folders(outputs)}
    places |= {sweep.id: _of_sweep(sweep) for sweep in ledger.all_sweeps(outputs)}
    keys = [key for key in places if key.startswith(given)]
    if len(keys) != 1 or not places[keys[0]]:
        what = "several runs or sweeps" if len(keys) > 1 else "no run"
        raise UsageError(
            f"{given}: {what} in {outputs}",
            f"runs are named by a folder, or by the beginning of a key that no other has; there are {listed(places)}",
            "give more of the key, or the folder, or --outputs-dir where it is not `outputs`",
        )
    return places[keys[0]]


def _of_sweep(sweep: ledger.Sweep) -> list[Path]:
    """The folders of a submitted sweep's runs that have begun."""
    folders = [sweep.folder.parents[1] / key for key in sweep.runs]
    return [folder for folder in folders if (folder / CONFIG).is_file()]


def labelled(folders: Sequence[Path], left_out: str) -> list[tuple[str, RunConfig]]:
    """The label and the settings of each run, without those that cannot be read: these are named, as `left_out`.

    Of one run alone that is an error, one of UNREADABLE.
    """
    configs: list[RunConfig] = []
    for folder in folders:
        try:
            configs.append(read_config(folder, folder.parent))
        except UNREADABLE as error:
            if len(folders) == 1:
                raise
            print(f"{left_out}: {why_unreadable(error)}", file=sys.stderr)
    return list(zip(labels(configs), configs, strict=True))


def listed(words: Iterable[str]) -> str:
    """Some words, for an error: not more than can be read."""
    known = list(words)
    more = f", and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return (", ".join(known[:LISTED]) or "none") + more
