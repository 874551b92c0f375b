"""TinyLoRA in TRL's GRPOTrainer (`pip install tinylora[bench]`): the trainer gets an optimizer of the adapter's values.

python -m experiments.examples.trl_grpo
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tinylora.adapters.attach import AdapterCallback, attach, save
from tinylora.adapters.tinylora import TinyLora
from tinylora.models.load import load
from tinylora.settings.config import ModelConfig
from tinylora.tasks.sums import SumsTask


def make_trainer(steps: int, folder: str | Path) -> tuple[Any, TinyLora]:
    """A trainer of the shipped model on sums, and the adapter that it trains."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = load(ModelConfig("miniature-qwen2", device="cpu"))
    adapter, task = attach(model, u=13), SumsTask()
    problems = {p.question: p for step in range(steps) for p in task.batch(0, step + 1, 8)}

    def reward(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        scores = task.score_all([problems[question] for question in prompts], completions)
        return [score.reward for score in scores]

    arguments = GRPOConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=32,
        num_generations=4,
        max_completion_length=48,
        temperature=1.0,
        beta=0.0,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": question} for question in problems]),
        processing_class=tokenizer,
        optimizers=(torch.optim.Adam(adapter.parameters(), lr=0.002), None),
        callbacks=[AdapterCallback(adapter)],
    )
    return trainer, adapter


def main(steps: int = 5, folder: str | Path = "outputs/examples") -> list[float]:
    """Train, save `trl_grpo.safetensors` in `folder` and return the values."""
    trainer, adapter = make_trainer(steps, folder)
    trainer.train()
    save(adapter, Path(folder) / "trl_grpo.safetensors")
    values: list[float] = adapter.lane(0).v.detach().flatten().tolist()
    return values


if __name__ == "__main__":
    print("v =", " ".join(f"{value:.4f}" for value in main()))
