"""Model folders that converse: two random blocks, a tokenizer of single bytes, and a chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from support.packs import point
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tinylora.models.form import Form, form_of
from tinylora.models.load import known_tokenizer
from tinylora.settings.config import Demonstrations, ModelConfig, RunConfig, TaskConfig, Template

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>", "</s>", "<|user|>")


def save_chat_model(
    folder: Path, template: str | None = CHATML, eos: str = "<|endoftext|>", marks: Sequence[str] = MARKS, **config: Any
) -> Path:
    """A model whose tokenizer's end token is `eos`, and which has `marks` as added tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<s>"])
    tokenizer.add_tokens([AddedToken(mark, special=mark != "<|end|>", normalized=False) for mark in marks])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token="<|endoftext|>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": fast.eos_token_id, "bos_token_id": fast.bos_token_id, "pad_token_id": fast.pad_token_id}
    settings = {"vocab_size": len(fast), "num_key_value_heads": 1, "max_position_embeddings": 2048, **sizes, **ends}
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(settings | config)))
    model.save_pretrained(folder)
    return folder


def save_data(folder: Path) -> Path:
    """Questions of gsm8k, few and short, with solutions."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = [{"question": f"What is {n} + 1?", "answer": f"It is. #### {n + 1}"} for n in range(60)]
        (folder / f"gsm8k-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def asked(place: Path, **changes: Any) -> RunConfig:
    """A point of the model in `place`/model on the questions in `place`/data; `model` may hold more of its settings."""
    model = ModelConfig(path=str(place / "model"), device="cpu", **changes.pop("model", {}))
    task = TaskConfig(
        "gsm8k", folder=str(place / "data"), template=Template.boxed, demonstrations=Demonstrations.foreign
    )
    return point(place / "outputs", model=model, task=task, **changes)


def form_in(folder: Path, chat: bool = True, **settings: Any) -> Form:
    """The form of the model in a folder."""
    config = ModelConfig(path=str(folder), device="cpu", **settings)
    tokens = known_tokenizer(config)
    assert tokens is not None
    return form_of(config, tokens, chat)
