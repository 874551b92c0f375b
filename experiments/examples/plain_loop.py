"""TinyLoRA in a loop of ten lines: supervised training of thirteen values on worked sums.

python -m experiments.examples.plain_loop
"""

from __future__ import annotations

from pathlib import Path

import torch

from tinylora.adapters.attach import attach, save
from tinylora.models.load import load
from tinylora.settings.config import Demonstrations, ModelConfig
from tinylora.tasks.sums import SumsTask


def main(steps: int = 30, folder: str | Path = "outputs/examples") -> list[float]:
    """Train, save `plain_loop.safetensors` in `folder` and return the loss of every step."""
    model, tokenizer = load(ModelConfig("miniature-qwen2"))
    adapter = attach(model, u=13)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.002)
    task, losses = SumsTask(), []
    for step in range(1, steps + 1):
        problems = task.batch(seed=0, step=step, count=16)
        texts = [task.prompt(p) + task.demonstration(p, Demonstrations.own) + tokenizer.eos_token for p in problems]
        batch = tokenizer(texts, return_tensors="pt", padding=True).to(model.device)
        answered = (batch.input_ids == tokenizer.convert_tokens_to_ids("=")).int().cumsum(1) > 0
        labels = batch.input_ids.masked_fill(~(answered & (batch.attention_mask > 0)), -100)  # the answer is learnt
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        adapter.round()  # v as it is stored: needed where its precision is 16 bits
        losses.append(loss.item())
    Path(folder).mkdir(parents=True, exist_ok=True)
    save(adapter, Path(folder) / "plain_loop.safetensors")
    return losses


if __name__ == "__main__":
    found = main()
    print(f"loss {found[0]:.3f} at first, {found[-1]:.3f} at last")
