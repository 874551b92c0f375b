"""Model folders of two random blocks and a word-level tokenizer, in any family of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tinylora.settings.config import ModelConfig

TOKENS = 16
SIZES = {
    "vocab_size": TOKENS,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}


def save_tokenizer(folder: Path, tokens: int = TOKENS, **special: str) -> None:
    """A word-level tokenizer, with an eos token unless told otherwise."""
    vocabulary = {"<unk>": 0, "<eos>": 1} | {f"w{i}": i for i in range(2, tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = special or {"eos_token": "<eos>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(
        folder
    )


def save_model(folder: Path, family: str = "Llama") -> Path:
    """A random model of two blocks with its tokenizer."""
    settings = getattr(transformers, f"{family}Config")(**SIZES)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def at(folder: Path, **settings: object) -> ModelConfig:
    """The model of a folder, on the CPU."""
    return ModelConfig(path=str(folder), device="cpu", **settings)  # type: ignore[arg-type]
