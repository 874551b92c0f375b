"""The rules that settings must keep, whatever the model and the data are: checked when a settings object is made.

Each raises UsageError with what was given, the rule, and what to do. Rules know names and values, not the settings
classes, which call them.
"""

from __future__ import annotations

import math

from tinylora.settings.choices import ALL, AUTO
from tinylora.settings.errors import UsageError


def require_counts(group: str = "", **values: int) -> None:
    """Settings that count things: at least 1. `group` is the beginning of their names, such as `eval.`."""
    for name, value in values.items():
        if value < 1:
            given = f"{group}{name}"
            raise UsageError(f"{given}={value}", "it counts things and must be at least 1", f"give {given}=1 or more")


def require_not_negative(name: str, value: int, rule: str) -> None:
    """A whole number of at least 0; `rule` says what it is."""
    if value < 0:
        raise UsageError(f"{name}={value}", rule, f"give {name}=0 or more")


def require_tying(n_tie: int | str) -> None:
    """A number of modules, or all of them."""
    if n_tie != ALL and not (isinstance(n_tie, int) and n_tie >= 1):
        raise UsageError(
            f"n_tie={n_tie}",
            f"n_tie is a whole number of at least 1, or `{ALL}`",
            f"give n_tie=1 (nothing shared) up to n_tie={ALL}",
        )


def require_rate(lr: float | str) -> None:
    """A learning rate that has been resolved to a number."""
    if isinstance(lr, str) or not (math.isfinite(lr) and lr > 0):
        raise UsageError(f"lr={lr}", f"a learning rate is a finite number above 0, or `{AUTO}`", f"give lr={AUTO}")


def no_constant(model: str, key: str, by_size: bool) -> UsageError:
    """The error for `lr=auto` where no constant is known; `by_size`: rates of its adapter depend on u."""
    of_size = " (the step in R grows with u: a rate of c/u suits all sizes)" if by_size else ""
    return UsageError(
        f"lr={AUTO} for model {model} on {key}",
        "auto needs a constant found on validation data for this model, task, algorithm and adapter",
        f"give lr=<number>{of_size}, or set model.lr_constants in conf/model for {key}",
    )


def require_sampling(temperature: float, top_p: float) -> None:
    """How completions are sampled."""
    if not temperature > 0:
        raise UsageError(
            f"rollout.temperature={temperature}",
            "samples need a temperature above 0",
            "give rollout.temperature=1.0; greedy accuracy is measured in any case",
        )
    if not 0 < top_p <= 1:
        raise UsageError(
            f"rollout.top_p={top_p}",
            "a probability above 0 and at most 1",
            "give rollout.top_p=1.0 to sample from all tokens",
        )


def require_grpo(samples: int, kl_coefficient: float, importance_cap: float) -> None:
    """The settings that GRPO alone has."""
    if samples < 2:
        raise UsageError(
            f"algorithm.samples={samples}",
            "GRPO compares the samples of a group",
            "give algorithm.samples=2 or more",
        )
    if kl_coefficient < 0 or not importance_cap > 0:
        raise UsageError(
            f"algorithm.kl_coefficient={kl_coefficient} algorithm.importance_cap={importance_cap}",
            "the KL coefficient is at least 0, the importance cap above 0",
            "give algorithm.kl_coefficient=0 algorithm.importance_cap=2",
        )


def require_own_settings(algorithm: str, own: bool) -> None:
    """An algorithm's name stands with the settings of that algorithm."""
    if not own:
        raise UsageError(
            f"algorithm.name={algorithm}",
            "an algorithm comes with its own settings",
            f"give algorithm={algorithm}, without .name",
        )


def require_memory(gib: float | str) -> None:
    """A budget of memory."""
    if gib != AUTO and (isinstance(gib, str) or not (math.isfinite(gib) and gib > 0)):
        raise UsageError(
            f"pack.memory_gib={gib}", f"a finite number of GiB above 0, or `{AUTO}`", f"give pack.memory_gib={AUTO}"
        )


def require_lanes(most: int | str) -> None:
    """The most lanes of a pack."""
    if most != AUTO and (isinstance(most, str) or most < 1):
        raise UsageError(
            f"pack.max_lanes={most}",
            f"it counts things and must be at least 1, or `{AUTO}`",
            "give pack.max_lanes=1 or more",
        )


def require_recipe(recipe: int, newest: int) -> None:
    """A recipe that this version knows."""
    if not 1 <= recipe <= newest:
        raise UsageError(
            f"recipe={recipe}",
            f"the recipe says how settings become results; this version knows 1 to {newest}",
            "leave it out, or read these records with the version that wrote them",
        )
