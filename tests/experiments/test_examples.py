"""TinyLoRA in other training loops, and our GRPO loss beside TRL's on the batch that TRL trained on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.packs import open_pack, point

from experiments.examples import plain_loop, trl_grpo, trl_sft
from tinylora.adapters.attach import load
from tinylora.engine.rows import Completions
from tinylora.models.load import load as load_model
from tinylora.settings.config import GrpoConfig, ModelConfig
from tinylora.train import grpo


def test_a_plain_loop_learns_and_saves_thirteen_values(tmp_path: Path) -> None:
    losses = plain_loop.main(steps=16, folder=tmp_path)
    assert sum(losses[8:]) < sum(losses[:8])
    assert load_file(tmp_path / "plain_loop.safetensors")["v"].numel() == 13


@pytest.mark.parametrize("example", [trl_grpo, trl_sft])
def test_trl_trains_thirteen_values_and_nothing_else(example: Any, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    values = example.main(steps=2, folder=tmp_path)
    assert len(values) == 13 and all(abs(value) > 1e-4 for value in values)
    model, _ = load_model(ModelConfig("miniature-qwen2", device="cpu"))
    adapter = load(model, tmp_path / f"{example.__name__.rpartition('.')[2]}.safetensors")
    assert adapter.lane(0).v.flatten().tolist() == values


def test_our_grpo_loss_and_gradient_are_trls_on_the_same_batch(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    trainer, adapter = trl_grpo.make_trainer(3, tmp_path)
    seen: list[dict[str, Any]] = []
    compute, step = trainer._compute_loss, trainer.optimizer or trainer.optimizers[0]

    def remember(model: Any, inputs: dict[str, Any]) -> Any:
        loss = compute(model, inputs)
        seen.append({**inputs, "loss": loss.item(), "v": adapter.lane(0).v.detach().clone()})
        return loss

    trainer._compute_loss = remember
    step.register_step_pre_hook(lambda *_: seen[-1].update(gradient=adapter.lane(0).v.grad.clone()))
    trainer.train()
    assert len(seen) == 3
    for batch in seen:
        pack, (lane,) = open_pack(
            [point(tmp_path, u=13, projection_seed=0, algorithm=GrpoConfig(prompts=8, samples=4))]
        )
        lane.v.data.copy_(batch["v"])
        prompts, tokens = (
            [ids[mask > 0].tolist() for ids, mask in zip(batch[f"{part}_ids"], batch[f"{part}_mask"], strict=True)]
            for part in ("prompt", "completion")
        )
        completions = Completions(prompts, torch.zeros(32, dtype=torch.long), tokens)  # TRL shuffles what it sampled
        logp = current_logps(pack, completions)
        found = grpo.accumulate(pack, completions, logp, batch["advantages"])
        assert found["train/loss"].item() == pytest.approx(batch["loss"], abs=1e-5)
        assert lane.v.grad is not None and batch["gradient"].norm() > 1e-3
        assert (lane.v.grad - batch["gradient"]).norm() < 1e-4 * batch["gradient"].norm()


def current_logps(pack: Any, completions: Completions) -> torch.Tensor:
    """What the lane itself gives the tokens (B, T): on TRL's first pass over a batch, its old log-probabilities."""
    from tinylora.engine.rows import completion_logps, lay_out, micro_batches, numbers

    (rows,) = micro_batches(lay_out(completions, range(len(completions.prompts)), pack.engine.row_width), 10**9)
    logp = torch.zeros(len(completions.tokens), max(map(len, completions.tokens)))
    with torch.no_grad(), pack.engine.adapters.rows(torch.zeros(len(rows), dtype=torch.long)):
        logp[numbers(rows)] = completion_logps(pack.engine.model, completions, rows)
    return logp
