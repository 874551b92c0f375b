"""What is adapted in each family of transformers: all linear maps of the blocks, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from support.tiny_models import SIZES, TOKENS, at, save_model
from torch import nn

from tinylora.models.load import load, outline
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.models.shapes import ModuleShape
from tinylora.settings.config import Attention
from tinylora.settings.errors import UsageError

BLOCK = [
    ModuleShape("self_attn.q_proj", 8, 8),
    ModuleShape("self_attn.k_proj", 4, 8),
    ModuleShape("self_attn.v_proj", 4, 8),
    ModuleShape("self_attn.o_proj", 8, 8),
    ModuleShape("mlp.gate_proj", 12, 8),
    ModuleShape("mlp.up_proj", 12, 8),
    ModuleShape("mlp.down_proj", 8, 12),
]
SEVEN_MAPS = [ModuleShape(f"model.layers.{i}.{m.name}", m.d_out, m.d_in) for i in range(2) for m in BLOCK]
FAMILIES = ["Qwen2", "Qwen3", "Llama", "Mistral", "Gemma2", "Gemma3Text"]
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 6,
    "shared_expert_intermediate_size": 6,
    "decoder_sparse_step": 1,
}


def random_model(family: str, **sizes: object) -> transformers.PreTrainedModel:
    """A model of random weights."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**SIZES, **sizes))
    assert isinstance(model, transformers.PreTrainedModel)
    return model


def gpt2() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    settings = transformers.GPT2Config(
        vocab_size=TOKENS, n_embd=8, n_layer=2, n_head=2, n_positions=16, n_inner=12, bos_token_id=1, eos_token_id=1
    )
    return transformers.GPT2LMHeadModel(settings)


def shapes_of(model: nn.Module) -> list[ModuleShape]:
    return [ModuleShape(name, *weight_of(module).shape) for name, module in adapted_modules(model).items()]


@pytest.mark.parametrize("family", FAMILIES)
def test_seven_maps_of_each_block_are_adapted_in_depth_order(tmp_path: Path, family: str) -> None:
    attention = Attention.eager if family == "Gemma2" else Attention.sdpa
    config = at(save_model(tmp_path, family), attention=attention)
    assert outline(config) == SEVEN_MAPS
    model, _ = load(config)
    assert shapes_of(model) == SEVEN_MAPS


def test_the_maps_of_gpt2_are_adapted_by_the_weights_that_they_compute_with() -> None:
    model = gpt2().eval()
    assert shapes_of(model) == [
        ModuleShape(f"transformer.h.{i}.{name}", d_out, d_in)
        for i in range(2)
        for name, d_out, d_in in (
            ("attn.c_attn", 24, 8),
            ("attn.c_proj", 8, 8),
            ("mlp.c_fc", 12, 8),
            ("mlp.c_proj", 8, 12),
        )
    ]
    for module in adapted_modules(model).values():
        weight = weight_of(module)
        x = torch.randn(1, 3, weight.shape[1])
        torch.testing.assert_close(module(x), nn.functional.linear(x, weight, module.bias))
        assert weight.data_ptr() == module.weight.data_ptr(), "a copy, not a view"


def test_gpt2_is_outlined_from_its_folder(tmp_path: Path) -> None:
    model = gpt2()
    model.save_pretrained(tmp_path)
    assert outline(at(tmp_path)) == shapes_of(model)


def test_fused_projections_are_adapted_as_one_map_each() -> None:
    names = ("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")
    found = shapes_of(random_model("Phi3"))
    assert {shape.name for shape in found} == {f"model.layers.{i}.{name}" for i in range(2) for name in names}
    assert ModuleShape("model.layers.0.self_attn.qkv_proj", 8 + 4 + 4, 8) in found
    assert ModuleShape("model.layers.1.mlp.gate_up_proj", 2 * 12, 8) in found


@pytest.mark.parametrize("family", [*FAMILIES, "Phi3"])
@pytest.mark.parametrize("tied", [True, False])
def test_head_and_embeddings_are_never_adapted(family: str, tied: bool) -> None:
    model = random_model(family, tie_word_embeddings=tied)
    weights = {id(module.weight) for module in adapted_modules(model).values()}
    assert id(model.lm_head.weight) not in weights
    assert id(model.get_input_embeddings().weight) not in weights


@pytest.mark.parametrize("family", ["Qwen2Moe", "Qwen3Moe", "Mixtral"])
def test_mixtures_of_experts_are_refused_and_not_adapted_in_part(family: str) -> None:
    with pytest.raises(UsageError, match=r"experts") as caught:
        adapted_modules(random_model(family, **EXPERTS))
    assert f"{family}ForCausalLM" in caught.value.given
    assert "dense" in caught.value.remedy


@pytest.mark.parametrize("kind", ["integers in a linear map", "8-bit floats", "integers in a buffer", "a bare matrix"])
def test_quantised_layers_and_bare_matrices_are_refused(kind: str) -> None:
    model = random_model("Llama")
    block = model.get_submodule("model.layers.1.mlp")
    if kind == "integers in a linear map":
        block.up_proj.weight = nn.Parameter(torch.zeros(12, 8, dtype=torch.uint8), requires_grad=False)
    elif kind == "8-bit floats":
        block.up_proj.weight.data = block.up_proj.weight.data.to(torch.float8_e4m3fn)
    elif kind == "integers in a buffer":
        block.up_proj = nn.Module()
        block.up_proj.register_buffer("qweight", torch.zeros(1, 8, dtype=torch.int32))
    else:
        block.extra = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(UsageError, match=r"model\.layers\.1\.mlp\.") as caught:
        adapted_modules(model)
    assert caught.value.given and caught.value.rule and caught.value.remedy


def test_the_language_blocks_of_a_vision_model_are_adapted_and_not_its_longer_vision_tower() -> None:
    settings = transformers.Gemma3Config(
        text_config=SIZES, vision_config={**SIZES, "num_hidden_layers": 3, "image_size": 4, "patch_size": 2}
    )
    with torch.device("meta"):
        model = transformers.Gemma3ForConditionalGeneration(settings)
    assert len(adapted_modules(model)) == len(SEVEN_MAPS)
    assert not any("vision" in name for name in adapted_modules(model))


def test_lists_inside_a_block_do_not_pass_for_the_blocks() -> None:
    block = nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(2, 2) for _ in range(5))})
    model = nn.ModuleDict({"layers": nn.ModuleList([block]), "head": nn.Linear(2, 2)})
    assert list(adapted_modules(model)) == [f"layers.0.experts.{i}" for i in range(5)]


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.ModuleList([nn.LayerNorm(2)])])
def test_a_model_without_linear_maps_in_blocks_is_refused(model: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"nn\.Linear"):
        adapted_modules(model)
