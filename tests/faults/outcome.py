"""Whether one outputs_dir holds what another one does: run folders, values bit for bit, and the MLflow store."""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import yaml

from tinylora.adapters.adapter_file import read_safetensors
from tinylora.records.folder import ADAPTER, CONFIG, ITEMS, METRICS, PREVIOUS, STATE, SUMMARY
from tinylora.records.kept import KEPT
from tinylora.records.samples import SAMPLES

SOURCES = ("git_commit", "git_dirty")  # which may change between two runs that are compared
NOTES = "record/"  # what the mirror notes for itself, which depends on times
VOLATILE_TAGS = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")


def differences(found: Path, wanted: Path) -> list[str]:
    """What the folder `found` lacks or has otherwise than `wanted`, a line each; nothing where a run was undisturbed.

    Times may differ, and the state before the last one, which may be another step's after a resumption.
    """
    said = [f"left over or missing: {path}" for path in sorted(_files(found) ^ _files(wanted))]
    for folder in sorted(path.parent for path in wanted.glob(f"*/{CONFIG}")):
        own = found / folder.name
        if (own / CONFIG).exists():
            said += [f"{folder.name}: {line}" for line in _of_run(own, folder)]
    if (found / "mlflow.db").exists():
        said += [f"MLflow: {line}" for line in _of_store(found, wanted)]
    return said


def _files(outputs: Path) -> set[str]:
    names = {str(path.relative_to(outputs)) for path in outputs.rglob("*")}
    names -= {"mlflow.db-journal"}  # SQLite's: one that counts for nothing may stay until it writes again
    names = {name for name in names if ".artifact.uploading." not in name}  # MLflow's, which it leaves there
    return {
        re.sub(r"(mlflow-artifacts/)[0-9a-f]{32}", r"\1<run>", re.sub(r"[0-9a-f]{32}(?=/)", "<run>", n)) for n in names
    }


def _of_run(found: Path, wanted: Path) -> Iterator[str]:
    if _config(found) != _config(wanted):
        yield f"another {CONFIG}"
    if (lines := _lines(found)) != (right := _lines(wanted)):
        steps = [line["step"] for line in lines]
        yield (
            f"steps {steps} in {METRICS}" if steps != [line["step"] for line in right] else f"other values in {METRICS}"
        )
    if _items(found) != _items(wanted):
        yield f"another {ITEMS}"
    if _samples(found) != _samples(wanted):
        yield f"another {SAMPLES}"
    if _kept(found) != _kept(wanted):
        yield f"another {KEPT}"
    if _summary(found) != _summary(wanted):
        yield f"another {SUMMARY}"
    for name in (STATE, ADAPTER):
        if not _same_tensors(found / name, wanted / name):
            yield f"another {name}"
    if (found / PREVIOUS).exists():
        read_safetensors(found / PREVIOUS)  # raises where it is damaged


def _same_tensors(one: Path, other: Path) -> bool:
    if not (one.exists() and other.exists()):
        return one.exists() is other.exists()
    (tensors, header), (others, other_header) = read_safetensors(one), read_safetensors(other)
    same = tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)
    return same and header == other_header


def _config(folder: Path) -> Any:
    content = yaml.safe_load((folder / CONFIG).read_text())
    del content["config"]["outputs_dir"]
    content["provenance"] = {name: value for name, value in content["provenance"].items() if name not in SOURCES}
    return content


def _lines(folder: Path) -> list[Any]:
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{"step": line["step"], "metrics": _timeless(line["metrics"])} for line in lines]


def _items(folder: Path) -> bytes | None:
    return (folder / ITEMS).read_bytes() if (folder / ITEMS).exists() else None


def _kept(folder: Path) -> bytes | None:
    return (folder / KEPT).read_bytes() if (folder / KEPT).exists() else None


def _samples(folder: Path) -> bytes | None:
    return gzip.decompress((folder / SAMPLES).read_bytes()) if (folder / SAMPLES).exists() else None


def _summary(folder: Path) -> Any:
    summary = json.loads((folder / SUMMARY).read_text()) if (folder / SUMMARY).exists() else {"base": {}, "last": {}}
    summary.pop("training_seconds", None)
    return summary | {"base": _timeless(summary["base"]), "last": _timeless(summary["last"])}


def _timeless(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def _of_store(found: Path, wanted: Path) -> Iterator[str]:
    """What the store lacks of the folders beside it, and what differs from the other store."""
    own, other = read_store(found / "mlflow.db"), read_store(wanted / "mlflow.db")
    if own.keys() != other.keys():
        yield f"runs {sorted(own)}, and not {sorted(other)}"
    for key in sorted(own.keys() & other.keys()):
        for name in ("count", "status", "tags", "params", "values"):
            if own[key][name] != other[key][name]:
                yield f"{key}: {name} {_unequal(own[key][name], other[key][name])}"
        in_folder = {
            (name, line["step"], value, int(line["time"] * 1000))
            for line in map(json.loads, (found / key / METRICS).read_text().splitlines())
            for name, value in line["metrics"].items()
        }
        in_store = {metric for metric in own[key]["metrics"] if not metric[0].startswith(NOTES)}
        if in_store != in_folder:
            yield f"{key}: metrics that are not those of the folder: {sorted(in_store ^ in_folder)[:4]}"
        places = Counter((name, step) for name, step, *_ in own[key]["metrics"])
        if twice := [place for place, count in places.items() if count > 1]:
            yield f"{key}: more than once: {twice[:4]}"


def read_store(path: Path) -> dict[str, dict[str, Any]]:
    """The runs of an SQLite store, by run key."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        if (state := database.execute("PRAGMA integrity_check").fetchone()) != ("ok",):
            raise AssertionError(f"{path}: {state}")
        runs: dict[str, dict[str, Any]] = {}
        for uuid, status, ended in database.execute(
            "SELECT run_uuid, status, end_time FROM runs WHERE lifecycle_stage = 'active'"
        ):
            tags = dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (uuid,)))
            params = database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (uuid,)).fetchall()
            asked = "SELECT key, step, value, timestamp FROM metrics WHERE run_uuid = ?"
            metrics = database.execute(asked, (uuid,)).fetchall()
            key = tags.get("run_key", f"no run_key: {uuid}")
            runs[key] = {
                "count": runs.get(key, {"count": 0})["count"] + 1,
                "status": (status, ended is not None),
                "tags": {name: value for name, value in tags.items() if not name.startswith((NOTES, *VOLATILE_TAGS))},
                "params": {name: value for name, value in params if name not in SOURCES},
                "metrics": metrics,
                "values": sorted(m[:3] for m in metrics if not m[0].startswith(("time/", NOTES))),
            }
    return runs


def _unequal(own: Any, other: Any) -> str:
    if isinstance(own, dict):
        names = sorted(name for name in own.keys() | other.keys() if own.get(name) != other.get(name))
        return str({name: (own.get(name), other.get(name)) for name in names})[:300]
    return f"{str(own)[:150]}, and not {str(other)[:150]}" if not isinstance(own, list) else f"{len(own)}, {len(other)}"
