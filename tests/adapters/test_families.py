"""Attaching to the families of models that transformers knows: v = 0 is the base model, and v changes it."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from tinylora.adapters.attach import attach

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[PreTrainedConfig, int]] = {  # config, adapted maps in a block
    "qwen2": (Qwen2Config(**SIZES), 7),
    "qwen3": (Qwen3Config(**SIZES), 7),
    "llama": (LlamaConfig(**SIZES, tie_word_embeddings=True), 7),
    "mistral": (MistralConfig(**SIZES, sliding_window=3), 7),
    "gemma2": (Gemma2Config(**SIZES), 7),
    "gemma3": (Gemma3TextConfig(**SIZES), 7),
    "gpt2": (GPT2Config(vocab_size=32, n_embd=24, n_layer=2, n_head=3, initializer_range=0.2), 4),
    "phi3, fused projections": (Phi3Config(**SIZES), 4),
}
IDS = torch.arange(20).reshape(4, 5) % 32


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_adapted(family: str) -> None:
    config, maps = FAMILIES[family]
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    base = model(IDS).logits
    head = model.get_output_embeddings().weight.clone()
    adapter = attach(model, u=3)
    assert len(adapter.names) == 2 * maps and not any("lm_head" in name or "embed" in name for name in adapter.names)
    assert torch.equal(model(IDS).logits, base), "v = 0 is not the base model"
    adapter.lane(0).v.data.fill_(0.3)
    moved = model(IDS).logits
    assert (moved - base).abs().max() > 0.01
    merged = torch.func.functional_call(model, adapter.merged_weights(0), (IDS,)).logits
    adapter.use_lane(None)
    again = torch.func.functional_call(model, adapter.merged_weights(0), (IDS,)).logits
    torch.testing.assert_close(again, moved, atol=2e-5, rtol=1e-4)
    assert not torch.equal(merged, again), "merged weights and the adapter together count twice"
    moved.square().mean().backward()
    assert adapter.lane(0).v.grad.abs().max() > 0 and all(p.grad is None for p in model.parameters())
    assert torch.equal(model.get_output_embeddings().weight, head)
    adapter.detach()
    assert torch.equal(model(IDS).logits, base)
