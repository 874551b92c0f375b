"""Reading one token a row, against transformers: every family that is read, every kind of rotation, and the others."""

from pathlib import Path

import pytest
import torch
from support.packs import give_v, open_pack, point, with_engine
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from tinylora.adapters.basis import compute_basis
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.engine.decode_step import DecodeStep, can_step, fuse_weights
from tinylora.engine.kv_cache import new_cache
from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Sampling
from tinylora.models.maps import adapted_modules
from tinylora.settings.config import Solver, Split

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
READ = {
    "qwen2": Qwen2Config(**SIZES),
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True),
    "llama 3 rotation": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
    "qwen3": Qwen3Config(**SIZES),
}
NOT_READ = {
    "another family": MistralConfig(**SIZES),
    "sliding windows": Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "another activation": LlamaConfig(**SIZES, hidden_act="gelu"),
    "moving rotation": LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
}


def model_of(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):  # which are all ones, all zeros
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def adapt(model: PreTrainedModel) -> TinyLora:
    weights = {name: linear.weight for name, linear in adapted_modules(model).items()}
    specs = [LaneSpec(3), LaneSpec(5, n_tie=3, projection_seed=1)]
    adapter = TinyLora(model, compute_basis(weights, 2, Solver.exact), specs)
    for lane in adapter.lanes:
        torch.nn.init.normal_(lane.v, std=0.3)
    return adapter


@torch.inference_mode()
def logits_after_two_tokens(model: PreTrainedModel, adapter: TinyLora, step: DecodeStep | None) -> torch.Tensor:
    """By the step, or by transformers: a padded prompt, then two tokens a row."""
    ids = torch.arange(18).view(3, 6) % 40
    mask = torch.tensor([[1] * 6, [0] * 2 + [1] * 4, [0] * 5 + [1]])
    cache = new_cache(model.config)
    with adapter.rows(torch.tensor([0, 1, 1])) as assign:
        matrices = assign(torch.tensor([0, 1, 1]))
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
        position = positions[:, -1]
        for token in (torch.tensor([7, 8, 9]), torch.tensor([1, 39, 2])):
            mask, position = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1), position + 1
            if step is not None:
                step.assign(matrices)
                logits = step(token, position, mask, cache)
            else:
                logits = model(
                    input_ids=token[:, None], attention_mask=mask, position_ids=position[:, None], past_key_values=cache
                ).logits[:, -1]
    return logits


@pytest.mark.parametrize("case", READ)
def test_step_gives_the_logits_of_transformers(case: str) -> None:
    model = model_of(READ[case])
    adapter = adapt(model)
    expected = logits_after_two_tokens(model, adapter, None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = DecodeStep(model, adapter, fuse_weights(model))
    torch.testing.assert_close(logits_after_two_tokens(model, adapter, step), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(logits_after_two_tokens(model, adapter, None), expected, atol=2e-5, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_fused_weights_take_no_memory_of_their_own(tmp_path: Path) -> None:
    model = model_of(READ["llama with biases"])
    step = DecodeStep(model, adapt(model), fuse_weights(model))
    attention = model.get_decoder().layers[0].self_attn
    assert attention.v_proj.weight.untyped_storage().data_ptr() == step.blocks[0].qkv.weight.data_ptr()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_step_in_bf16_is_as_close_as_bf16_allows() -> None:
    model = model_of(READ["qwen2"], torch.bfloat16)
    adapter = adapt(model)
    expected = logits_after_two_tokens(model, adapter, None).float()
    found = logits_after_two_tokens(model, adapter, DecodeStep(model, adapter, fuse_weights(model))).float()
    assert (found - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("case", NOT_READ)
def test_other_models_are_left_to_transformers(case: str) -> None:
    assert not can_step(model_of(NOT_READ[case]))


def test_a_rollout_is_the_same_with_and_without_the_step(tmp_path: Path) -> None:
    pack, _ = open_pack([point(tmp_path), point(tmp_path, u=3, n_tie=4, seed=1)])
    give_v(pack)
    assert pack.engine.decode_step is not None
    prompts = pack.encode_prompts(pack.task.held_out(Split.test, 8))
    request = Request(prompts, torch.arange(8) % 2, torch.rand(32, 40), Sampling(40), samples=4)
    fast, plain = roll_out(pack.engine, request), roll_out(with_engine(pack, decode_step=None).engine, request)
    assert torch.equal(fast.tokens, plain.tokens)
    torch.testing.assert_close(fast.logp, plain.logp, atol=1e-4, rtol=0)
