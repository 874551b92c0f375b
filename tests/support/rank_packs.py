"""The packs of `test_ranks`, trained by two processes, the second of which fails in the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.packs import point

from tinylora.records.folder import Unmirrored
from tinylora.records.progress import Silent
from tinylora.settings.config import (
    Adapter,
    AdapterConfig,
    Algorithm,
    EvalConfig,
    GrpoConfig,
    Precision,
    RandomSearchConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
)
from tinylora.train import loop as train

SMALL = {"rollout": RolloutConfig(max_new_tokens=32), "eval": EvalConfig(test_items=5, validation_items=4)}
ONE = EvalConfig(test_items=1, validation_items=1)  # of which a second rank has none


def packs(outputs: Path) -> dict[str, list[RunConfig]]:
    """Uneven rows for two ranks: 9 prompts a step, of each lane 3.

    Adam makes steps of the size of lr from gradients of any size, rounding included; so lr is small where many are.
    """
    grpo, lora = point(outputs, steps=5, algorithm=GrpoConfig(prompts=3, samples=4), **SMALL), Adapter.lora
    sft = replace(grpo, algorithm=SftConfig(prompts=5))
    search = replace(grpo, algorithm=RandomSearchConfig(prompts=3, samples=2), lr=0.02)
    return {
        "grpo": [
            replace(grpo, seed=3),
            replace(grpo, u=5, n_tie=3, precision=Precision.bf16, seed=1),
            replace(grpo, u=2, precision=Precision.fp16, lr=1e6),  # diverges
        ],
        "random search": [search, replace(search, u=3, n_tie=4, precision=Precision.bf16, seed=2)],
        "sft": [sft, replace(sft, u=3, seed=2)],
        "lora": [replace(grpo, adapter=AdapterConfig(name=lora), lr=2e-4, seed=seed) for seed in (0, 1)],
        "full": [replace(sft, adapter=AdapterConfig(name=Adapter.full), lr=1e-4)],
        "kl": [
            replace(grpo, algorithm=GrpoConfig(prompts=2, samples=4, kl_coefficient=0.1), seed=4, lr=0.005, eval=ONE)
        ],
    }


def long_pack(outputs: Path, steps: int = 20) -> list[RunConfig]:
    """What can be killed half-way."""
    settings = {"algorithm": GrpoConfig(prompts=3, samples=4), "eval": EvalConfig(test_items=4, validation_items=4)}
    return [point(outputs, u=u, steps=steps, **(SMALL | settings)) for u in (5, 13)]


def fail(*_: object) -> None:
    raise ValueError("no luck\nat all")


def train_all(outputs: str) -> None:
    """What each rank does: train all packs, then one that fails."""
    everything = packs(Path(outputs))
    everything["failing"] = [replace(everything["grpo"][0], seed=99)]
    for name, configs in everything.items():
        if name == "failing" and train.ranks_of_process().rank == 1:
            train.STEPS[Algorithm.grpo] = fail
        train.run_pack(configs, [config.run_key for config in configs], Silent(), Unmirrored())
