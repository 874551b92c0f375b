"""The rules that a point must keep whatever its model and data are: checked when a RunConfig is made.

Each raises UsageError with what was given, the rule, and what to do.
"""

from __future__ import annotations

import math

from tinylora.settings.choices import ALL, AUTO, Adapter, Algorithm
from tinylora.settings.config import GrpoConfig, RunConfig
from tinylora.settings.errors import UsageError


def check(config: RunConfig) -> None:
    """Raise UsageError where a setting of the point breaks a rule."""
    _require_at_least_one(config)
    _require_tying(config.n_tie)
    _require_learning_rate(config)
    _require_sampling(config)
    if config.seed < 0:
        raise UsageError(f"seed={config.seed}", "a seed is a whole number of at least 0", "give seed=0 or more")
    memory = config.pack.memory_gib
    if memory != AUTO and (isinstance(memory, str) or not (math.isfinite(memory) and memory > 0)):
        raise UsageError(
            f"pack.memory_gib={memory}", f"a finite number of GiB above 0, or `{AUTO}`", f"give pack.memory_gib={AUTO}"
        )
    lanes = config.pack.max_lanes
    if lanes != AUTO and (isinstance(lanes, str) or lanes < 1):
        raise UsageError(
            f"pack.max_lanes={lanes}",
            f"it counts things and must be at least 1, or `{AUTO}`",
            "give pack.max_lanes=1 or more",
        )
    if config.eval.every < 0:
        raise UsageError(
            f"eval.every={config.eval.every}",
            "it counts steps; 0 means only before and after",
            "give eval.every=0 or more",
        )


def _require_at_least_one(config: RunConfig) -> None:
    counts = {
        "u": config.u,
        "rank": config.rank,
        "steps": config.steps,
        "algorithm.prompts": config.algorithm.prompts,
        "task.max_new_tokens": config.task.max_new_tokens,
        "rollout.max_new_tokens": config.rollout.max_new_tokens,
        "eval.test_items": config.eval.test_items,
        "eval.validation_items": config.eval.validation_items,
        "eval.samples_per_item": config.eval.samples_per_item,
    }
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name}={value}", "it counts things and must be at least 1", f"give {name}=1 or more")


def _require_tying(n_tie: int | str) -> None:
    if n_tie != ALL and not (isinstance(n_tie, int) and n_tie >= 1):
        raise UsageError(
            f"n_tie={n_tie}",
            f"n_tie is a whole number of at least 1, or `{ALL}`",
            f"give n_tie=1 (nothing shared) up to n_tie={ALL}",
        )


def _require_learning_rate(config: RunConfig) -> None:
    lr = config.lr
    if config.adapter.name is Adapter.none:
        return
    if lr == AUTO:
        if config.lr_key not in config.model.lr_constants:
            of_size = " (the step in R grows with u: a rate of c/u suits all sizes)"
            raise UsageError(
                f"lr={AUTO} for model {config.model.identity} on {config.lr_key}",
                "auto needs a constant found on validation data for this model, task, algorithm and adapter",
                f"give lr=<number>{of_size if config.adapter.name is Adapter.tinylora else ''}, "
                f"or set model.lr_constants in conf/model for {config.lr_key}",
            )
        lr = config.learning_rate
    if isinstance(lr, str) or not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"lr={lr}", f"a learning rate is a finite number above 0, or `{AUTO}`", f"give lr={AUTO}")


def _require_sampling(config: RunConfig) -> None:
    rollout, algorithm = config.rollout, config.algorithm
    if isinstance(algorithm, GrpoConfig) is not (algorithm.name is Algorithm.grpo):
        raise UsageError(
            f"algorithm.name={algorithm.name.value}",
            "an algorithm comes with its own settings",
            f"give algorithm={algorithm.name.value}, without .name",
        )
    if not rollout.temperature > 0:
        raise UsageError(
            f"rollout.temperature={rollout.temperature}",
            "samples need a temperature above 0",
            "give rollout.temperature=1.0; greedy accuracy is measured in any case",
        )
    if not 0 < rollout.top_p <= 1:
        raise UsageError(
            f"rollout.top_p={rollout.top_p}",
            "a probability above 0 and at most 1",
            "give rollout.top_p=1.0 to sample from all tokens",
        )
    if not isinstance(algorithm, GrpoConfig):
        return
    if algorithm.samples < 2:
        raise UsageError(
            f"algorithm.samples={algorithm.samples}",
            "GRPO compares the samples of a group",
            "give algorithm.samples=2 or more",
        )
    if algorithm.kl_coefficient < 0 or not algorithm.importance_cap > 0:
        raise UsageError(
            f"algorithm.kl_coefficient={algorithm.kl_coefficient} algorithm.importance_cap={algorithm.importance_cap}",
            "the KL coefficient is at least 0, the importance cap above 0",
            "give algorithm.kl_coefficient=0 algorithm.importance_cap=2",
        )
