"""A small made-up study with outcomes by problem: the same runs as an MLflow store and as an archive of run folders."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.report import MadeRun, made_run, write_runs

ITEMS, SAMPLES, STEPS, BASE = 64, 4, 3, 0.3
TINY = {"adapter.name": "tinylora", "u": "1", "n_tie": "1", "sharing": "tiled", "precision": "fp32", "rank": "2"}
FULL = {"adapter.name": "full", "precision": "fp32"}
QWEN, LLAMA = "miniature-qwen2", "miniature-llama"
ORIGIN = ("trained_values", "trained_bytes", "modules", "groups", "lr_setting", "model.parameters", "git_commit")
ORIGIN = (
    *ORIGIN,
    "git_dirty",
    "model_digest",
    "version.torch",
    "degrees_of_freedom",
    "trained_bits",
)
Point = tuple[str, str, dict[str, str], float, float]
POINTS: list[Point] = [
    (QWEN, "grpo", FULL, 0.9, 0.01),
    (QWEN, "grpo", TINY | {"n_tie": "2"}, 0.75, 0.08),
    (QWEN, "grpo", TINY | {"n_tie": "all"}, 0.31, 0.05),
    (QWEN, "grpo", TINY, 0.8, 0.05),
    (QWEN, "grpo", TINY | {"n_tie": "8"}, 0.6, 0.1),
    (QWEN, "grpo", TINY | {"precision": "bf16"}, 0.8, 0.05),
    (QWEN, "grpo", TINY | {"sharing": "structured", "n_tie": "3"}, 0.4, 0.05),
    (QWEN, "grpo", TINY | {"rank": "16"}, 0.6, 0.2),
    (QWEN, "grpo", TINY | {"u": "4", "n_tie": "all"}, 0.6, 0.2),
    (QWEN, "grpo", TINY | {"u": "64", "n_tie": "all"}, 0.85, 0.02),
    (QWEN, "sft", FULL, 0.3, 0.02),
    (QWEN, "sft", TINY, 0.3, 0.02),
    (LLAMA, "grpo", TINY | {"n_tie": "8"}, 0.4, 0.05),
    (LLAMA, "grpo", TINY, 0.6, 0.1),
    (LLAMA, "grpo", TINY | {"u": "4", "n_tie": "all"}, 0.75, 0.02),
    (LLAMA, "grpo", TINY | {"u": "64", "n_tie": "all"}, 0.8, 0.02),
]


def packed(outcomes: np.ndarray) -> str:
    return base64.b64encode(np.packbits(outcomes.astype(np.uint8).ravel()).tobytes()).decode()


def items_file(rates: dict[int, float], rng: np.random.Generator, ids: str = "0123456789abcdef") -> tuple[bytes, Any]:
    """items.jsonl of a run with these accuracies by step; also the accuracies that came out, sampled and greedy."""
    lines, found = [], {}
    for step, rate in rates.items():
        hard = np.linspace(-0.2, 0.2, ITEMS)[:, None]
        sampled = rng.random((ITEMS, SAMPLES)) < np.clip(rate + hard, 0, 1)
        greedy = rng.random(ITEMS) < np.clip(rate + hard[:, 0], 0, 1)
        entry = {"step": step, "suite": "test", "items": ITEMS, "samples": SAMPLES, "ids": ids}
        entry |= {f"sampled_{rule}": packed(sampled) for rule in ("strict", "flexible")}
        entry |= {f"greedy_{rule}": packed(greedy) for rule in ("strict", "flexible")}
        lines.append(json.dumps(entry))
        found[step] = float(sampled.mean()), float(greedy.mean())
    return ("\n".join(lines) + "\n").encode(), found


def runs(draws: int = 8) -> list[tuple[MadeRun, bytes]]:
    """Each point at these draws, at a rate that two other draws chose among three; one of the draws failed once."""
    made = []
    for place, (model, algorithm, point, rate, spread) in enumerate(POINTS):
        rng = np.random.Generator(np.random.PCG64(place))
        for draw in range(draws + 2):
            for lr in (0.01,) if draw >= 2 else (0.001, 0.01, 0.1):
                end = float(np.clip(rate + spread * rng.standard_normal() - 0.2 * (lr != 0.01), 0, 1))
                made.append(_run(model, algorithm, point, lr, draw, end, rng))
    failed, _ = made[9]  # a draw of the first point that chose nothing
    failed.tags.update(status="failed", reason="the loss is nan at step 2")
    for name in list(failed.metrics):
        failed.metrics[name] = failed.metrics[name][:1]
    return made


def _run(
    model: str, algorithm: str, point: dict[str, str], lr: float, draw: int, end: float, rng: np.random.Generator
) -> tuple[MadeRun, bytes]:
    run = made_run(model, "sums", algorithm, point, lr, draw, STEPS)
    run.params.update({"trained_bits": 8 * run.params["trained_bytes"], "eval.samples": SAMPLES})
    if point["adapter.name"] == "tinylora":
        run.params.update(projection_seed=1000 * len(model) + draw, degrees_of_freedom=run.params["trained_values"])
    noise = np.random.Generator(np.random.PCG64(draw))  # common: the untrained model is one for all runs of a seed
    first, before = items_file({0: BASE}, noise)
    sampled, greedy = before[0]
    last, found = items_file({STEPS: end}, rng)
    for manner, start, ended in (("sampled", sampled, found[STEPS][0]), ("greedy", greedy, found[STEPS][1])):
        run.metrics[f"eval/test/{manner}_strict"] = [(0, start), (STEPS, ended)]
        run.metrics[f"eval/validation/{manner}_strict"] = [(0, BASE), (STEPS, end)]
    return run, first + last


def write_store(path: Path, made: list[tuple[MadeRun, bytes]], folder: Path) -> None:
    """Into an SQLite store that is there, with the outcomes as artifacts below `folder`."""
    for run, items in made:
        place = folder / run.tags["run_key"]
        place.mkdir(parents=True)
        (place / "items.jsonl").write_bytes(items)
    write_runs(path, [MadeRun(run.params, run.tags, run.metrics, str(folder / run.tags["run_key"])) for run, _ in made])


def write_archive(path: Path, made: list[tuple[MadeRun, bytes]]) -> None:
    with tarfile.open(path, "w:xz") as tar:
        for run, items in made:
            for name, content in _files(run, items).items():
                entry = tarfile.TarInfo(f"{run.tags['run_key']}/{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _files(run: MadeRun, items: bytes) -> dict[str, bytes]:
    scientific: dict[str, Any] = {}
    for name, value in run.params.items():
        *above, last = name.split(".")
        place = scientific
        for part in above if name not in ORIGIN else []:
            place = place.setdefault(part, {})
        if name not in ORIGIN:
            place[last] = value
    origin = {name: run.params[name] for name in ORIGIN if name in run.params}
    steps = sorted({step for points in run.metrics.values() for step, _ in points})
    lines = [{"step": s, "metrics": {n: dict(p)[s] for n, p in run.metrics.items() if s in dict(p)}} for s in steps]
    described = {"run_key": run.tags["run_key"], "scientific": scientific, "provenance": origin}
    return {
        "config.yaml": yaml.safe_dump(described).encode(),
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in lines).encode(),
        "items.jsonl": items,
        "summary.json": json.dumps({"status": run.tags["status"], "reason": run.tags["reason"]}).encode(),
    }
