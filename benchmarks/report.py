"""Time and memory of the report on a large store: 10,000 runs with 200 steps of history in one SQLite file.

    python -m benchmarks.report [--runs 10000] [--steps 200] [--metrics 3] [--work FOLDER] [--keep]

The store is made up: points of the paper's presets for several models, written straight into MLflow's tables, since
its client would take hours. `--metrics` is how many metrics a step has; the report reads three of them.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.paper import conf_files
from analysis.paper.conf_files import shape_of
from analysis.records.load import CURVES
from tinylora.models.shapes import adapted_shapes, shape_parameters
from tinylora.settings.paths import absolute
from tinylora.settings.store_urls import url_of

MODELS = (
    "qwen2.5-3b-instruct",
    "llama-3.2-3b-instruct",
    "qwen2.5-7b-instruct",
    "llama-3.2-1b-instruct",
    "qwen2.5-1.5b-instruct",
)
PRESETS = ("figure4", "figure1", "figure2", "figure7", "figure8", "table2")
RATES = (1e-7, 5e-7, 1e-6, 5e-6, 1e-5, 1e-4, 2e-4)
SEEDS = (0, 1, 2)
SUITES = ("gsm8k", "minerva_math", "olympiadbench", "aime24", "amc23")
EXPERIMENT = "tinylora"
FIRST_SECOND = 1_700_000_000


@dataclass(frozen=True)
class MadeRun:
    """A run to be written into a store."""

    params: dict[str, Any]
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]
    """Metric -> steps and values."""
    artifacts: str = ""
    """Folder of its artifacts."""


def create_store(path: Path) -> None:
    """An SQLite store with an empty experiment, made by MLflow itself."""
    from mlflow import MlflowClient

    MlflowClient(url_of(path)).create_experiment(EXPERIMENT)


def write_runs(path: Path, runs: Iterable[MadeRun]) -> int:
    """Write runs into the tables of a store, as the client would; returns how many."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = OFF")
    number = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()[0]
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'metrics' AND sql IS NOT NULL"
    indexes = connection.execute(query).fetchall()
    for name, _ in indexes:  # made again at the end: much faster than keeping them up to date
        connection.execute(f"DROP INDEX {name}")
    count = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    for run in runs:
        _write_run(connection, number, f"{count:032x}", run)
        count += 1
    for _, sql in indexes:
        connection.execute(sql)
    connection.commit()
    connection.close()
    return int(count)


def _write_run(connection: sqlite3.Connection, number: int, run_id: str, run: MadeRun) -> None:
    start = 1000 * FIRST_SECOND
    row = (run_id, "made", "LOCAL", "", "", "", "FINISHED", start, start + 1000, "", "active", run.artifacts, number)
    connection.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, "
        f"end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) VALUES ({','.join('?' * 13)})",
        row,
    )
    params = ((name, str(value), run_id) for name, value in run.params.items())
    connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
    tags = ((name, value, run_id) for name, value in run.tags.items())
    connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
    insert = "INSERT INTO {} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
    for name, points in run.metrics.items():
        rows = [(name, 0.0 if math.isnan(v) else v, start + step, step, math.isnan(v), run_id) for step, v in points]
        connection.executemany(insert.format("metrics"), rows)
        connection.execute(insert.format("latest_metrics"), rows[-1])


def made_runs(count: int, steps: int, metrics: int) -> Iterator[MadeRun]:
    """Runs of the presets for several models, seeds and rates inside, with accuracies that rise with the size."""
    points = [(model, preset, point) for preset in PRESETS for model in MODELS for point in _points(preset)]
    seen = set()
    for model, preset, point in points:
        algorithm = "sft" if preset == "figure2" else "grpo"
        task = "math" if preset == "table2" else "gsm8k"
        key = (model, task, algorithm, *sorted(point.items()))
        if key in seen:
            continue
        seen.add(key)
        for lr in RATES:
            for seed in SEEDS:
                if count == 0:
                    return
                count -= 1
                yield made_run(model, task, algorithm, point, lr, seed, steps, metrics)


def _points(preset: str) -> list[dict[str, str]]:
    return list({tuple(sorted(point.items())): point for _, point in conf_files.points(preset)}.values())


def made_run(
    model: str, task: str, algorithm: str, point: dict[str, str], lr: float, seed: int, steps: int, metrics: int = 3
) -> MadeRun:
    """One run whose accuracy follows from its settings, with noise of its own."""
    size, modules, groups = _size(model, point)
    width = 4 if point["precision"] == "fp32" else 2
    params: dict[str, Any] = {
        **point,
        "lr": lr,
        "seed": seed,
        "steps": steps,
        "model.name": model,
        "model.dtype": "bf16",
        "task.name": task,
        "task.template": "hash",
        "algorithm.name": algorithm,
        "algorithm.prompts": 64,
        "rollout.max_new_tokens": 512,
        "rollout.temperature": 1.0,
        "eval.test_items": 1319,
        "eval.suites": ",".join(SUITES) if task == "math" else "",
        "trained_values": size,
        "trained_bytes": size * width,
        "modules": modules,
        "groups": groups,
        "lr_setting": lr,
        "model.parameters": _parameters(model),
        "git_commit": "0123abc",
        "git_dirty": "False",
        "model_digest": model,
        "version.torch": "2.13.0",
    }
    params |= {"algorithm.samples": 4} if algorithm == "grpo" else {"task.demonstrations": "own"}
    key = hashlib.sha256(repr(sorted(params.items())).encode()).hexdigest()[:12]
    tags = {"run_key": key, "status": "finished", "reason": "", "label": "made", "scale_model": "false"}
    return MadeRun(params, tags, _metrics(params, steps, metrics))


def _size(model: str, point: dict[str, str]) -> tuple[int, int, int]:
    """Trained values, maps and groups of a point."""
    shape = shape_of(model)
    assert shape is not None, model
    maps, adapter = adapted_shapes(shape), point["adapter.name"]
    if adapter == "none":
        return 0, len(maps), len(maps)
    if adapter == "full":
        return shape_parameters(shape), len(maps), len(maps)
    rank = int(point["rank"])
    if adapter == "lora":
        return rank * sum(module.d_out + module.d_in for module in maps), len(maps), len(maps)
    tie = point["n_tie"]
    groups = 1 if tie == "all" else math.ceil(len(maps) / int(tie))
    if tie != "all" and point["sharing"] == "structured":
        groups = 7 * math.ceil(len(maps) // 7 / int(tie))
    return groups * (int(point["u"]) if adapter == "tinylora" else rank * rank), len(maps), groups


def _parameters(model: str) -> int:
    shape = shape_of(model)
    assert shape is not None, model
    return shape_parameters(shape)


def _metrics(params: dict[str, Any], steps: int, metrics: int) -> dict[str, list[tuple[int, float]]]:
    seed = [params["seed"], *str(sorted(params.items())).encode()]
    noise = np.random.Generator(np.random.PCG64(seed))
    shift = (2.0 if params["algorithm.name"] == "sft" else 0.0) + (1.0 if "llama" in params["model.name"] else 0.0)
    rise = 1 / (1 + math.exp(-(math.log10(max(params["trained_values"], 1)) - 1.0 - shift)))
    off = 0.03 * abs(math.log10(params["lr"] / 1e-5)) if params["lr"] else 0.0
    base, end = 0.55, min(0.98, 0.55 + 0.4 * rise - off)
    end += 0.01 * noise.standard_normal() if steps else base - end
    scores: dict[str, list[tuple[int, float]]] = {}
    names = [f"{split}/{manner}" for split in ("test", "validation") for manner in ("greedy", "sampled")]
    suites = [f"{suite}/sampled" for suite in SUITES]
    for name in names + (suites if params["task.name"] == "math" else []):
        for scoring, more in (("strict", 0.0), ("flexible", 0.02)):
            values = [base + more, end + more + 0.005 * noise.standard_normal()]
            scores[f"eval/{name}_{scoring}"] = list(zip((0, steps), values, strict=True))[: 2 if steps else 1]
    scores["eval/merge_kl"] = [(steps, 1e-6)]
    train = [*CURVES, *(f"train/other_{index}" for index in range(metrics))][:metrics]
    curve = np.linspace(base, end, steps) + 0.02 * noise.standard_normal(steps)
    for place, name in enumerate(train if steps else []):
        scale = (1.0, 300.0 * (1 + 0.1 * rise), 0.004)[place] if place < 3 else 1.0
        scores[name] = [(step, scale * float(value)) for step, value in enumerate(curve, 1)]
    return scores


def measure(work: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak GiB of a full build, in a process of its own."""
    start = time.monotonic()
    command = [sys.executable, "-m", "analysis.build", "--outputs-dir", str(work), "--out", str(work / "reports")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"the build failed: {done.stderr}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the store where it is not there, build its report, print what that took."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="runs in the store (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="steps of each (default: %(default)s)")
    parser.add_argument("--metrics", type=int, default=3, help="metrics of each step (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder of store and report (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave them there; a store that is there is used again")
    options = parser.parse_args(arguments)
    work = absolute(options.work or tempfile.mkdtemp(), "--work")
    work.mkdir(parents=True, exist_ok=True)
    store = work / "mlflow.db"
    if not store.exists():
        create_store(store)
        made = write_runs(store, made_runs(options.runs, options.steps, options.metrics))
        print(
            f"{made:,} runs of {options.steps} steps and {options.metrics} metrics: {store.stat().st_size / 1e9:.2f} GB"
        )
    seconds, processor, gib = measure(work)
    print(f"report: {seconds:.1f} s ({processor:.1f} s of processor time), peak memory {gib:.2f} GiB")
    if not options.keep:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
