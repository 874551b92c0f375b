"""TinyLoRA in TRL's SFTTrainer, as `trl_grpo` has it in GRPOTrainer.

python -m experiments.examples.trl_sft
"""

from __future__ import annotations

from pathlib import Path

from experiments.examples.trl_grpo import PLAIN, train, training
from tinylora.adapters.attach import attach
from tinylora.models.load import load
from tinylora.settings.config import Demonstrations, ModelConfig
from tinylora.tasks.sums import SumsTask


def main(steps: int = 5, folder: str | Path = "outputs/examples") -> list[float]:
    """Train, save `trl_sft.safetensors` in `folder` and return the values."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load(ModelConfig("miniature-qwen2", device="cpu"))
    adapter, task = attach(model, u=13), SumsTask()
    problems = [problem for step in range(steps) for problem in task.batch(0, step + 1, 16)]
    rows = [{"prompt": task.prompt(p), "completion": task.demonstration(p, Demonstrations.own)} for p in problems]
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=16,
        max_length=64,
        **PLAIN,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        **training(adapter),
    )
    return train(trainer, adapter, Path(folder) / "trl_sft.safetensors")


if __name__ == "__main__":
    print("v =", " ".join(f"{value:.4f}" for value in main()))
