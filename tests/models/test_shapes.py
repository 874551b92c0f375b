"""Sizes known without torch are those of the models themselves, and the published ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.processes import loaded_by
from support.tiny_models import SIZES, at
from transformers import AutoConfig, AutoModelForCausalLM

from tinylora.engine.kv_cache import new_cache
from tinylora.models.find import MINIATURES, config_folder
from tinylora.models.load import outline
from tinylora.models.shapes import adapted_shapes, cached_token_bytes, shape_of_folder, shape_parameters
from tinylora.models.smollm2 import NAME as SMOLLM2
from tinylora.models.smollm2 import smollm2_folder
from tinylora.settings.choices import Precision
from tinylora.settings.config import ModelConfig, ShapeConfig
from tinylora.settings.files import CACHE_VARIABLE

CONF = Path(__file__).parents[2] / "conf" / "model"
MODELS = {path: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml")) if path.stem != "hub"}
SHAPES = {path.stem: ShapeConfig(**settings["shape"]) for path, settings in MODELS.items()}

QWEN = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "use_sliding_window": False,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 32768,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b-instruct": {
        **QWEN,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
    },
    "qwen2.5-1.5b-instruct": {
        **QWEN,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_hidden_layers": 28,
    },
    "qwen2.5-3b-instruct": {
        **QWEN,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_attention_heads": 16,
        "num_hidden_layers": 36,
    },
    "qwen2.5-7b-instruct": {
        **QWEN,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 152064,
    },
    "llama-3.2-3b-instruct": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_attention_heads": 24,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "attention_bias": False,
        "mlp_bias": False,
    },
}
"""What the models' config.json on the hub says of their sizes."""

LORA_RANK_1 = {
    "qwen2.5-0.5b-instruct": 549_888,
    "qwen2.5-1.5b-instruct": 1_154_048,
    "qwen2.5-3b-instruct": 1_870_848,
    "qwen2.5-7b-instruct": 2_523_136,
}
MODULES = {
    "qwen2.5-0.5b-instruct": 168,
    "qwen2.5-1.5b-instruct": 196,
    "qwen2.5-3b-instruct": 252,
    "qwen2.5-7b-instruct": 196,
    "llama-3.2-3b-instruct": 196,
}
"""Counts that the paper states or implies."""


@pytest.fixture(params=PUBLISHED)
def published(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A model's name, and a folder with its config and no weights to speak of."""
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[request.param]))
    (tmp_path / "model.safetensors").write_bytes(b"")
    return request.param, tmp_path


def test_shapes_are_those_of_the_models_that_transformers_builds(published: tuple[str, Path]) -> None:
    name, folder = published
    shape = shape_of_folder(folder)
    assert shape == SHAPES[name], "conf/model disagrees with the config on the hub"
    assert adapted_shapes(SHAPES[name]) == outline(at(folder))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    counted = sum(p.numel() for key, p in model.named_parameters() if not key.endswith(".bias"))
    assert shape_parameters(SHAPES[name]) == counted


@pytest.mark.parametrize("name", MODULES)
def test_adapted_modules_are_as_many_as_the_paper_says(name: str) -> None:
    assert len(adapted_shapes(SHAPES[name])) == MODULES[name]


@pytest.mark.parametrize("name", LORA_RANK_1)
def test_rank_1_lora_has_the_published_number_of_parameters(name: str) -> None:
    assert sum(module.d_out + module.d_in for module in adapted_shapes(SHAPES[name])) == LORA_RANK_1[name]


def test_parameters_are_the_published_ones_less_the_biases() -> None:
    assert shape_parameters(SHAPES["qwen2.5-7b-instruct"]) == 7_615_487_488
    assert shape_parameters(SHAPES["qwen2.5-math-7b"]) == 7_615_487_488
    assert shape_parameters(SHAPES["qwen2.5-3b-instruct"]) == 3_085_846_528
    assert shape_parameters(SHAPES["llama-3.2-1b-instruct"]) == 1_235_814_400
    assert shape_parameters(SHAPES["llama-3.2-3b-instruct"]) == 3_212_749_824
    norms_of_queries_and_keys = 36 * 2 * 128
    assert shape_parameters(SHAPES["qwen3-8b"]) == 8_190_735_360 - norms_of_queries_and_keys
    assert shape_parameters(SHAPES["llama-3.1-8b-instruct"]) == 8_030_261_248


@pytest.mark.parametrize("name", [path.name for path in sorted(MINIATURES.iterdir()) if path.is_dir()])
def test_shapes_of_shipped_models_are_those_of_their_files(name: str) -> None:
    assert shape_of_folder(MINIATURES / name) == SHAPES[name]
    assert adapted_shapes(SHAPES[name]) == outline(ModelConfig(name))


def test_the_shape_of_smollm2_is_that_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylora.models.smollm2.PACKAGE", "not_to_be_converted_for_this")
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    try:
        folder = smollm2_folder()
    except ValueError:
        pytest.skip("SmolLM2 is not converted here (make smollm2)")
    assert shape_of_folder(folder) == SHAPES[SMOLLM2]


def test_every_hub_model_has_a_repository_a_shape_and_no_learning_rate() -> None:
    for path, settings in MODELS.items():
        assert settings["name"] == path.stem
        if "hub" in settings:
            assert settings["hub"].count("/") == 1 and settings["hub"].split("/")[1].lower() == path.stem
            assert (settings["revision"], settings["dtype"]) == ("main", "bf16")
            assert "lr_constants" not in settings


@pytest.mark.parametrize("name", ["miniature-qwen2", "miniature-llama"])
def test_bytes_of_a_cached_token_are_those_of_its_keys_and_values(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(MINIATURES / name)
    cache = new_cache(model.config)
    model(torch.tensor([[3, 4, 5]]), past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cached_token_bytes(SHAPES[name], Precision.fp32) == held // 3
    assert cached_token_bytes(SHAPES[name], Precision.bf16) == held // 6


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral"])
def test_sizes_that_a_config_leaves_out_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    given = {"model_type": family, **SIZES}
    (tmp_path / "config.json").write_text(json.dumps(given))
    shape = shape_of_folder(tmp_path)
    assert shape is not None
    settings = AutoConfig.from_pretrained(tmp_path)
    assert asdict(shape) == {
        "blocks": settings.num_hidden_layers,
        "hidden": settings.hidden_size,
        "intermediate": settings.intermediate_size,
        "heads": settings.num_attention_heads,
        "kv_heads": settings.num_key_value_heads,
        "head_width": settings.head_dim,
        "vocabulary": settings.vocab_size,
        "tied": settings.tie_word_embeddings,
        "context": settings.max_position_embeddings,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"model_type": "gpt2", "n_embd": 8}',
        '{"model_type": "qwen3_moe", "hidden_size": 8}',
        '{"model_type": "llama"}',
        '{"model_type": "llama", "hidden_size": "x", "num_attention_heads": 0}',
    ],
)
def test_a_config_of_no_llama_like_model_has_no_shape(tmp_path: Path, text: str) -> None:
    assert shape_of_folder(tmp_path) is None
    (tmp_path / "config.json").write_text(text)
    assert shape_of_folder(tmp_path) is None


def test_shapes_are_known_without_torch() -> None:
    assert not loaded_by("tinylora.models.shapes") & {"torch", "transformers"}


def test_the_config_of_a_shipped_model_lies_in_its_folder() -> None:
    assert config_folder(ModelConfig("miniature-llama")) == MINIATURES / "miniature-llama"
