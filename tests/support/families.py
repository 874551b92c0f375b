"""Model folders in many families of transformers, of two random blocks, with the tokenizer of a shipped miniature."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers

from tinylora.engine.layout import Reading
from tinylora.models.find import MINIATURES

TOKENS, CONTEXT = 18, 128
WINDOW = 8
PLAIN = {
    "vocab_size": TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 2,
}
GROUPED = PLAIN | {"num_key_value_heads": 2}
BART = {
    "vocab_size": TOKENS,
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "encoder_layers": 3,
    "max_position_embeddings": CONTEXT,
    "is_decoder": True,
    "is_encoder_decoder": False,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
FAST, OWN = (True, Reading.padded), (False, Reading.padded)
ALONE, ANEW = (False, Reading.alone), (False, Reading.anew)

RIGHT: dict[str, tuple[str, dict[str, Any], tuple[bool, Reading]]] = {
    "Llama": ("Llama", GROUPED, FAST),
    "Qwen3": ("Qwen3", GROUPED | {"head_dim": 8}, FAST),
    "Mistral, a window": ("Mistral", GROUPED | {"sliding_window": WINDOW}, OWN),
    "Mistral, no window": ("Mistral", GROUPED | {"sliding_window": None}, FAST),
    "Qwen2, windows in some layers": (
        "Qwen2",
        GROUPED | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        OWN,
    ),
    "Gemma 3, a window": ("Gemma3Text", GROUPED | {"sliding_window": WINDOW, "head_dim": 8}, OWN),
    "GPT-Neo, a window under another name": (
        "GPTNeo",
        {name: value for name, value in PLAIN.items() if name not in ("num_hidden_layers", "num_attention_heads")}
        | {"num_layers": 2, "num_heads": 4, "window_size": WINDOW, "attention_types": [[["global", "local"], 1]]},
        OWN,
    ),
    "BLOOM, biases by column": ("Bloom", {"vocab_size": TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4}, OWN),
    "Falcon, a linear layer of its own": (
        "Falcon",
        {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False},
        FAST,
    ),
    "Falcon, biases by column": (
        "Falcon",
        {"vocab_size": TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
        OWN,
    ),
    "BART, no positions": ("Bart", BART, ALONE),
    "mBART, no positions": ("MBart", BART, ALONE),
    "Marian, no positions": ("Marian", BART, ALONE),
    "Pegasus, no positions": ("Pegasus", BART, ALONE),
    "PLBart, no positions": ("PLBart", BART, ALONE),
    "RoBERTa, positions from the padding's": ("Roberta", PLAIN | {"is_decoder": True, "pad_token_id": 1}, ANEW),
    "XLM-RoBERTa": ("XLMRoberta", PLAIN | {"is_decoder": True, "pad_token_id": 1}, ANEW),
    "BERT as a decoder": ("Bert", PLAIN | {"is_decoder": True}, FAST),
    "OPT, which flattens rows": ("OPT", PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 32}, FAST),
    "MiniCPM3": ("MiniCPM3", PLAIN | {"num_key_value_heads": 4} | LATENT, FAST),
    "DeepSeek-V3, dense": (
        "DeepseekV3",
        PLAIN | {"num_key_value_heads": 4, "first_k_dense_replace": 2, "n_routed_experts": 4} | LATENT,
        FAST,
    ),
    "GPT, a cache that stays empty": (
        "OpenAIGPT",
        {"vocab_size": TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
        ANEW,
    ),
    "GPT-2": ("GPT2", {"vocab_size": TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}, FAST),
    "Phi-3, a rotation that changes": (
        "Phi3",
        GROUPED | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 96},
        FAST,
    ),
    "Gemma 3, sizes in a sub-config": (
        "Gemma3",
        {
            "text_config": GROUPED | {"sliding_window": WINDOW, "head_dim": 8, "model_type": "gemma3_text"},
            "vision_config": VISION | {"image_size": 14, "patch_size": 7, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
        },
        OWN,
    ),
    "Fuyu, sizes in a sub-config": (
        "Fuyu",
        PLAIN | {"text_config": PLAIN | {"model_type": "persimmon"}, "patch_size": 2, "image_size": 4},
        FAST,
    ),
}
REFUSED = {
    "BERT, an encoder": ("Bert", PLAIN | {"is_decoder": False}, "tokens behind it"),
    "RoBERTa, an encoder": ("Roberta", PLAIN | {"is_decoder": False, "pad_token_id": 1}, "tokens behind it"),
    "ELECTRA, an encoder": ("Electra", PLAIN | {"is_decoder": False, "embedding_size": 32}, "tokens behind it"),
    "Mixtral, experts": ("Mixtral", GROUPED | {"num_local_experts": 2}, "experts"),
}
EAGER = {"GPTNeo", "OpenAIGPT", "Bloom"}


def family_folder(folder: Path, family: str, settings: dict[str, Any]) -> Path:
    """A folder with a random model whose text matters to what it says, and a tokenizer that fits."""
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "vision" not in name:
            parameter.data.normal_(0, 1.2 / parameter.shape[-1] ** 0.5)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINIATURES / "miniature-qwen2" / name, folder)
    return folder
