"""Builds a small MLflow store by the record schema, for the tests of the analysis."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

STEPS = 4
DEFAULTS: dict[str, Any] = {
    "u": 13,
    "n_tie": "all",
    "sharing": "tiled",
    "precision": "fp32",
    "rank": 2,
    "lr": 0.01,
    "lr_setting": "auto",
    "seed": 0,
    "steps": STEPS,
    "model.name": "miniature-qwen2",
    "model.dtype": "fp32",
    "model.parameters": 330000,
    "task.name": "sums",
    "algorithm.name": "grpo",
    "algorithm.prompts": 16,
    "algorithm.samples": 8,
    "algorithm.kl_coefficient": 0.0,
    "algorithm.importance_cap": 2.0,
    "adapter.name": "tinylora",
    "adapter.solver": "fast",
    "rollout.max_new_tokens": 64,
    "rollout.temperature": 1.0,
    "rollout.top_p": 1.0,
    "eval.every": 0,
    "eval.test_items": 256,
    "eval.validation_items": 128,
    "modules": 28,
    "groups": 1,
    "model_digest": "aa",
    "basis_digest": "bb",
    "data_digest": "cc",
    "git_commit": "0123abc",
    "git_dirty": "false",
    "version.torch": "2.9",
    "version.python": "3.11",
}
SFT = {"algorithm.name": "sft", "algorithm.prompts": 64, "task.demonstrations": "own"}
GRPO_ONLY = ("algorithm.samples", "algorithm.kl_coefficient", "algorithm.importance_cap")


def create_store(path: Path) -> None:
    """Create an SQLite store with an experiment `tinylora` and no runs."""
    MlflowClient(f"sqlite:///{path}").create_experiment("tinylora")


class Store:
    """An SQLite store with an experiment `tinylora`, to which runs are added."""

    def __init__(self, path: Path) -> None:
        self.uri = f"sqlite:///{path}"
        self.client = MlflowClient(self.uri)
        self.experiment_id = self.client.get_experiment_by_name("tinylora").experiment_id

    def add(
        self,
        settings: dict[str, Any] | None = None,
        *,
        accuracy: float = 0.5,
        validation: float | None = None,
        base: float = 0.3,
        rewards: list[float] | None = None,
        status: str = "finished",
        reason: str = "",
        run_key: str | None = None,
        end_time: int = 2000,
        warnings: str = "",
    ) -> str:
        """Record one run; `accuracy` is its final sampled strict test accuracy. Returns its run_key."""
        params = DEFAULTS | (settings or {})
        if params["algorithm.name"] == "sft":
            params = {name: value for name, value in params.items() if name not in GRPO_ONLY}
        params |= {"trained_values": params["u"] * params["groups"]}
        params |= {"trained_bytes": params["trained_values"] * (4 if params["precision"] == "fp32" else 2)}
        key = run_key or hashlib.sha256(str(sorted(params.items())).encode()).hexdigest()[:12]
        run = self.client.create_run(self.experiment_id, start_time=1000)
        tags = {"run_key": key, "status": status, "reason": reason, "label": "demo", "scale_model": "true"}
        tags |= {"warnings": warnings} if warnings else {}
        scores = accuracy, accuracy if validation is None else validation, base
        metrics = _metrics(params, *scores, rewards) if status == "finished" else []
        self.client.log_batch(
            run.info.run_id,
            metrics=metrics,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self.client.set_terminated(run.info.run_id, end_time=end_time)
        return key


def _metrics(
    params: dict[str, Any], accuracy: float, validation: float, base: float, rewards: list[float] | None
) -> list[Metric]:
    steps = int(params["steps"])
    metrics = []
    for step, test, checked in ((0, base, base), (steps, accuracy, validation)):
        for split, sampled in (("test", test), ("validation", checked)):
            for manner, value in (("sampled", sampled), ("greedy", sampled - 0.1)):
                metrics.append(Metric(f"eval/{split}/{manner}_strict", value, 1000 + step, step))
                metrics.append(Metric(f"eval/{split}/{manner}_flexible", value + 0.05, 1000 + step, step))
    for step in range(1, steps + 1):
        reward = rewards[step - 1] if rewards else base + (accuracy - base) * step / steps
        if params["algorithm.name"] == "grpo":
            metrics.append(Metric("train/reward", reward, 1000 + step, step))
        metrics.append(Metric("train/completion_tokens", 10.0 + step, 1000 + step, step))
    return metrics
