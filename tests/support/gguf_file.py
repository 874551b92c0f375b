"""GGUF files of miniature-qwen2, as other tools write them: weights in blocks of some bits, byte-level BPE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from tinylora.models.find import MINIATURES

FOLDER = MINIATURES / "miniature-qwen2"
PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, kind: str = "F32", architecture: str = "qwen2", head: str | None = None) -> None:
    """Write the miniature with its matrices in blocks of a kind, and with a head of its own of another kind."""
    config = json.loads((FOLDER / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    _add_vocabulary(writer)
    weights = load_file(FOLDER / "model.safetensors")
    embeddings = weights["model.embed_tokens.weight"]  # and a row for the one merged token, which BPE cannot do without
    weights["model.embed_tokens.weight"] = np.concatenate([embeddings, embeddings[-1:]])
    for name, weight in weights.items():
        _add(writer, _renamed(name), weight, kind)
    if head is not None:
        _add(writer, "output.weight", weights["model.embed_tokens.weight"], head)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: Any, name: str, weight: np.ndarray, kind: str) -> None:
    chosen = gguf.GGMLQuantizationType[kind if weight.ndim == 2 else "F32"]
    writer.add_tensor(name, gguf.quantize(weight.astype(np.float32), chosen), raw_dtype=chosen)


def _renamed(name: str) -> str:
    words = name.removeprefix("model.").split(".")
    if words[0] != "layers":
        return {"embed_tokens": "token_embd", "norm": "output_norm"}[words[0]] + ".weight"
    return f"blk.{words[1]}.{PARTS['.'.join(words[2:-1])]}.{words[-1]}"


def _add_vocabulary(writer: Any) -> None:
    vocabulary = json.loads((FOLDER / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), ";;"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if len(token) > 1 else 1 for token in tokens])  # control tokens, others
    writer.add_token_merges(["; ;"])
    for name in ("pad", "bos", "eos"):
        getattr(writer, f"add_{name}_token_id")(vocabulary[f"<{name}>"])
