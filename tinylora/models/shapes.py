"""Sizes of Llama-like models from a few numbers, without torch and without their files: for planning in no time.

A Llama-like model is an embedding, blocks of seven linear maps (q, k, v, o, gate, up, down) and a head. What is loaded
is measured on the model itself (`tinylora.models.load`); a test holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylora.settings.choices import Precision
from tinylora.settings.config import ShapeConfig
from tinylora.settings.given_files import MIB, Unreadable, json_of, read_regular, text_of

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
DTYPES = {"float32": Precision.fp32, "bfloat16": Precision.bf16, "float16": Precision.fp16}


@dataclass(frozen=True)
class ModuleShape:
    """One adapted linear map, y = x W^T with W (d_out, d_in)."""

    name: str
    d_out: int
    d_in: int


def adapted_shapes(shape: ShapeConfig) -> list[ModuleShape]:
    """The adapted maps in depth order, by the names that transformers gives them."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    block = [
        ModuleShape("self_attn.q_proj", queries, shape.hidden),
        ModuleShape("self_attn.k_proj", keys, shape.hidden),
        ModuleShape("self_attn.v_proj", keys, shape.hidden),
        ModuleShape("self_attn.o_proj", shape.hidden, queries),
        ModuleShape("mlp.gate_proj", shape.intermediate, shape.hidden),
        ModuleShape("mlp.up_proj", shape.intermediate, shape.hidden),
        ModuleShape("mlp.down_proj", shape.hidden, shape.intermediate),
    ]
    return [
        ModuleShape(f"model.layers.{index}.{module.name}", module.d_out, module.d_in)
        for index in range(shape.blocks)
        for module in block
    ]


def shape_parameters(shape: ShapeConfig) -> int:
    """Parameters, a tied head counted once; without biases and norms of queries and keys, under 0.02% of a model."""
    maps = sum(module.d_out * module.d_in for module in adapted_shapes(shape))
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    norms = (2 * shape.blocks + 1) * shape.hidden
    return maps + embeddings + norms


def cached_token_bytes(shape: ShapeConfig, dtype: Precision) -> int:
    """Bytes of one token's keys and values in all blocks."""
    return 2 * shape.blocks * shape.kv_heads * shape.head_width * dtype.size


def shape_of_folder(folder: Path) -> ShapeConfig | None:
    """The sizes that a model folder's config.json gives; None where it is unreadable, or the model not Llama-like."""
    given = _config_of(folder)
    if given.get("model_type") not in LLAMA_LIKE:
        return None
    try:
        heads, hidden = int(given["num_attention_heads"]), int(given["hidden_size"])
        return ShapeConfig(
            blocks=int(given["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(given["intermediate_size"]),
            heads=heads,
            kv_heads=int(given.get("num_key_value_heads") or heads),
            head_width=int(given.get("head_dim") or hidden // heads),
            vocabulary=int(given["vocab_size"]),
            tied=bool(given.get("tie_word_embeddings", False)),
            context=int(given["max_position_embeddings"]),
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        ZeroDivisionError,
    ):  # which numbers a config must hold, transformers says
        return None


def dtype_of_folder(folder: Path) -> Precision | None:
    """The type that a model folder's config.json names; None where it is unreadable or names none of ours."""
    given = _config_of(folder)
    return DTYPES.get(str(given.get("dtype") or given.get("torch_dtype")).removeprefix("torch."))


def _config_of(folder: Path) -> dict[str, Any]:
    """The content of a model folder's config.json; empty where it is unreadable."""
    try:
        given = json_of(text_of(read_regular(folder / "config.json", 16 * MIB)))
    except Unreadable:
        return {}
    return given if isinstance(given, dict) else {}
