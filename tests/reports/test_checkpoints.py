"""Weight files that are not those of their config.json: what would be dropped in silence is refused by name.

Report: huggingface/transformers#5421 (weights of a checkpoint that were not used, said in a warning alone).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.families import GROUPED, PLAIN, family_folder
from support.tiny_models import at

from tinylora.models.files import require_whole
from tinylora.models.load import load
from tinylora.settings.errors import UsageError

Tensors = dict[str, torch.Tensor]


def configured(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_tensors(folder: Path, change: Callable[[Tensors], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def scales(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        tensors[f"{name}_scale_inv"] = torch.ones(1)


@pytest.mark.parametrize(
    ("family", "settings", "changes", "left_over"),
    [
        ("Llama", GROUPED | {"attention_bias": True}, {"attention_bias": False}, "proj.bias"),
        ("Llama", GROUPED | {"mlp_bias": True}, {"mlp_bias": False}, "proj.bias"),
        ("Qwen3", GROUPED | {"head_dim": 8}, {"model_type": "llama", "architectures": None}, "k_norm.weight"),
        ("Qwen2", GROUPED, {"model_type": "llama", "architectures": None}, "proj.bias"),
        ("Llama", GROUPED, {"num_hidden_layers": 1}, "layers.1."),
        ("OPT", PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 32}, {"enable_bias": False}, "bias"),
        (
            "Gemma3Text",
            GROUPED | {"head_dim": 8},
            {"model_type": "gemma", "architectures": None},
            "feedforward_layernorm",
        ),
    ],
)
def test_weights_that_the_config_does_not_ask_for(
    tmp_path: Path, family: str, settings: dict[str, object], changes: dict[str, object], left_over: str
) -> None:
    folder = family_folder(tmp_path / "model", family, settings)
    load(at(folder))
    configured(folder, **changes)
    with pytest.raises(UsageError, match="does not ask for") as caught:
        load(at(folder))
    assert left_over in caught.value.rule and "config.json" in caught.value.remedy


def test_scales_of_quantised_weights_without_their_config(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", "Llama", GROUPED)
    with_tensors(folder, scales)
    with pytest.raises(UsageError, match="weight_scale_inv"):
        load(at(folder))


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8])
def test_quantised_weights_are_seen_before_anything_is_loaded(tmp_path: Path, kind: torch.dtype) -> None:
    folder = family_folder(tmp_path / "model", "Llama", GROUPED)
    name = "model.layers.0.mlp.up_proj.weight"
    with_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(kind)}))
    with pytest.raises(UsageError, match="full precision") as caught:
        require_whole(folder)
    assert name in caught.value.rule


def test_a_weight_of_another_shape(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", "Llama", GROUPED)
    configured(folder, intermediate_size=64)
    with pytest.raises(UsageError, match="cannot be read"):
        load(at(folder))


def test_what_transformers_itself_ignores_is_no_reason(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", "Llama", GROUPED)
    with_tensors(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    load(at(folder))


def test_a_head_of_its_own_is_used_though_the_config_ties_it(tmp_path: Path) -> None:
    """transformers 5 does so itself; a version that dropped the head would compute other logits."""
    folder = family_folder(tmp_path / "model", "Llama", GROUPED)
    ids = torch.tensor([[3, 4, 5]])
    logits = load(at(folder))[0](input_ids=ids).logits
    configured(folder, tie_word_embeddings=True)
    assert torch.equal(load(at(folder))[0](input_ids=ids).logits, logits)
