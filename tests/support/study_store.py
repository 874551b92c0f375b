"""The study's records as an MLflow store, in seconds: what `sync` writes through MLflow's client, written in bulk.

`test_study` holds the two against each other on some of the runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from benchmarks.report import MadeRun, create_store, write_runs
from tinylora.records import archive
from tinylora.records.described import name_of, parameters
from tinylora.records.folder import ITEMS
from tinylora.settings.recorded import from_plain

ARCHIVE = Path(__file__).parents[2] / "analysis" / "study" / "records.tar.xz"
RECIPE_1 = Path(__file__).with_name("recipe1.tar.xz")
"""Runs of an earlier study, as the first recipe recorded them."""


def made_run(files: dict[str, bytes]) -> MadeRun:
    """An archived run as it is written into a store."""
    described = yaml.load(files["config.yaml"], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    summary = json.loads(files["summary.json"])
    config, provenance = from_plain(described["config"]), described["provenance"]
    metrics: dict[str, list[tuple[int, float]]] = {}
    for line in map(json.loads, files["metrics.jsonl"].splitlines()):
        for name, value in line["metrics"].items():
            metrics.setdefault(name, []).append((line["step"], value))
    tags = {
        "run_key": described["run_key"],
        "status": summary["status"],
        "reason": summary["reason"] or "",
        "label": name_of(config),
        "scale_model": str(provenance["scale_model"]).lower(),
    }
    return MadeRun(parameters(config, provenance), tags, metrics)


def make_store(path: Path, only: Sequence[str] | None = None) -> None:
    """An SQLite store with the study's runs, all or some, and their outcomes by problem as artifacts beside it."""
    create_store(path)
    runs = archive.read(ARCHIVE)
    write_runs(path, (_with_items(path.parent / "artifacts" / key, runs[key]) for key in (only or runs)))


def _with_items(folder: Path, files: dict[str, bytes]) -> MadeRun:
    if ITEMS in files:
        folder.mkdir(parents=True)
        (folder / ITEMS).write_bytes(files[ITEMS])
    return replace(made_run(files), artifacts=str(folder))
