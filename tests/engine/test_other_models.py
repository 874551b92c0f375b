"""Models that transformers alone reads: sliding windows, whose caches cannot take in rows, in rollouts and training."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import reference
from support.packs import give_v, open_pack, point, with_engine
from transformers import MistralConfig, MistralForCausalLM

from tinylora.engine.kv_cache import can_append, new_cache
from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Sampling
from tinylora.models.find import MINIATURES
from tinylora.settings.config import ModelConfig, Split
from tinylora.train import grpo
from tinylora.train.pack import LaneRun, Pack

WINDOW = 12


@pytest.fixture
def sliding(tmp_path: Path) -> tuple[Pack, list[LaneRun]]:
    """Two lanes on a Mistral of random weights that sees the last 12 tokens, with the miniature's tokenizer."""
    torch.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=18,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=WINDOW,
            initializer_range=0.15,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    model.save_pretrained(tmp_path / "mistral")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINIATURES / "miniature-qwen2" / name, tmp_path / "mistral")
    model_config = ModelConfig(path=str(tmp_path / "mistral"), device="cpu")
    pack, lanes = open_pack([point(tmp_path, model=model_config, u=u) for u in (3, 40)])
    give_v(pack, scale=0.5)
    return pack, lanes


def request_of(pack: Pack) -> Request:
    noise = torch.rand((16, 20), generator=torch.Generator().manual_seed(0))
    prompts = pack.encode_prompts(pack.task.held_out(Split.test, 8))
    return Request(prompts, torch.arange(8) % 2, noise, Sampling(20), samples=2)


@pytest.mark.parametrize("most_rows", [6, 100])
def test_rollout_is_that_of_every_completion_alone(sliding: tuple[Pack, list[LaneRun]], most_rows: int) -> None:
    pack, _ = sliding
    request = request_of(pack)
    assert pack.engine.decode_step is None and not can_append(new_cache(pack.engine.model.config))
    cached = most_rows * (max(map(len, request.prompts)) + 20)
    rollout = roll_out(with_engine(pack, limits=replace(pack.engine.limits, cached_tokens=cached)).engine, request)
    completions = [rollout.completion(row) for row in range(16)]
    assert max(map(len, completions)) > WINDOW
    assert completions == [reference.decode(pack, request, row) for row in range(16)]


def test_gradient_is_that_of_every_completion_alone(sliding: tuple[Pack, list[LaneRun]]) -> None:
    pack, lanes = sliding
    assert pack.engine.row_width == 0
    request = request_of(pack)
    rollout = roll_out(pack.engine, request)
    completions = rollout.completions(request.prompts, request.lane_of_prompt)
    advantages = torch.randn(16, generator=torch.Generator().manual_seed(0))
    grpo.accumulate(pack, completions, rollout.logp, advantages)
    for lane in lanes:
        assert lane.v.grad is not None
        wanted = reference.grpo_gradient(pack, lane.index, completions, rollout.logp, advantages)
        assert (lane.v.grad - wanted).norm() < 1e-4 * wanted.norm()
