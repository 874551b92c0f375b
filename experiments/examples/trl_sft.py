"""TinyLoRA in TRL's SFTTrainer (`pip install tinylora[bench]`): the trainer gets an optimizer of the adapter's values.

python -m experiments.examples.trl_sft
"""

from __future__ import annotations

from pathlib import Path

import torch

from tinylora.adapters.attach import AdapterCallback, attach, save
from tinylora.models.load import load
from tinylora.settings.config import Demonstrations, ModelConfig
from tinylora.tasks.sums import SumsTask


def main(steps: int = 5, folder: str | Path = "outputs/examples") -> list[float]:
    """Train, save `trl_sft.safetensors` in `folder` and return the values."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load(ModelConfig("miniature-qwen2", device="cpu"))
    adapter = attach(model, u=13)
    task = SumsTask()
    problems = [problem for step in range(steps) for problem in task.batch(0, step + 1, 16)]
    rows = [{"prompt": task.prompt(p), "completion": task.demonstration(p, Demonstrations.own)} for p in problems]
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=16,
        max_length=64,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        optimizers=(torch.optim.Adam(adapter.parameters(), lr=0.002), None),
        callbacks=[AdapterCallback(adapter)],
    )
    trainer.train()
    save(adapter, Path(folder) / "trl_sft.safetensors")
    values: list[float] = adapter.lane(0).v.detach().flatten().tolist()
    return values


if __name__ == "__main__":
    print("v =", " ".join(f"{value:.4f}" for value in main()))
