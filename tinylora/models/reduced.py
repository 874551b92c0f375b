"""A model's config in small, with strong random weights: for finding out how a family reads its input, in a second.

What decides that stays as it is: windows, kinds of layers, widths of heads, rotations. What only costs time is
reduced: heads, layers of one kind, the vocabulary. Where a family cannot be built that way, its own widths are kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from tinylora.models.load import text_config
from tinylora.settings.choices import Attention

HEADS, TOKENS, INNER = (2, 4), 256, 256
WIDTH = 64  # of a head, where a family has none
LARGEST = 500_000_000  # parameters of a model that is still built
EMBEDDING_SCALE, MATRIX_SCALE, VECTOR_SCALE = 0.2, 1.5, 0.05
"""Of random weights: so strong that a token that is read wrongly shows in all that follow."""

# The names that transformers gives a size, in one family or another.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")
_HEADS = {"num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"}
_HEADS |= {"decoder_attention_heads", "num_decoder_attention_heads"}
_SHARED_HEADS = ("num_key_value_heads", "num_kv_heads")
_WIDTHS = (
    *("hidden_size", "n_embd", "d_model", "emb_dim"),
    *("embedding_size", "word_embed_proj_dim", "attention_hidden_size"),
)
_INNER = ("intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", "ffn_hidden_size", "dff", "d_inner")


def reduced_models(settings: PreTrainedConfig, attention: Attention) -> Iterator[PreTrainedModel | Exception]:
    """Random models of a config on the CPU in fp32, the smallest first; an error in the place of one that fails."""
    for heads, short in ((HEADS[0], True), (HEADS[1], True), (HEADS[0], False), (None, True), (None, False)):
        try:
            yield _build(_reduced(settings, heads, short), attention)
        except Exception as error:  # what a config that does not fit together raises depends on its family
            yield error


def _reduced(settings: PreTrainedConfig, heads: int | None, short: bool) -> PreTrainedConfig:
    """A copy with a small vocabulary, so many heads (None: all of them), and fewer layers where it is `short`."""
    small = copy.deepcopy(settings)
    parts = [small, *(value for value in vars(small).values() if isinstance(value, PreTrainedConfig))]
    for part in parts:
        if short:
            _cut_layers(part)
        _cut_vocabulary(part)
    if heads is not None:
        _cut_heads(text_config(small), heads)
    return small


def _cut_layers(config: PreTrainedConfig) -> None:
    """Keep the first layers, up to those by which each kind has come once, and two at least."""
    counts = {name: vars(config)[name] for name in _LAYERS if isinstance(vars(config).get(name), int)}
    for count in set(counts.values()):
        lists = {name: value for name, value in vars(config).items() if isinstance(value, list) and len(value) == count}
        kept = max((_until_all_kinds(value) for value in lists.values()), default=1)
        kept = min(max(kept, 2), count)
        for name, value in lists.items():
            setattr(config, name, value[:kept])
        for name in (name for name in counts if counts[name] == count):
            setattr(config, name, kept)


def _until_all_kinds(values: list[object]) -> int:
    """How many values a list begins with until each of them has come once."""
    seen = {str(value): place for place, value in reversed(list(enumerate(values, 1)))}
    return max(seen.values())


def _cut_heads(config: PreTrainedConfig, kept: int) -> None:
    """Fewer heads, each as wide as before; heads that are shared stay shared."""
    heads = next((vars(config)[name] for name in _HEADS if isinstance(vars(config).get(name), int)), None)
    width = next((vars(config)[name] for name in _WIDTHS if isinstance(vars(config).get(name), int)), None)
    heads = heads or (width or 0) // WIDTH  # recurrent families name none
    if width is None or heads <= kept:
        return
    own = width // heads if width % heads == 0 else math.ceil(width / heads / 8) * 8
    for name, value in list(vars(config).items()):
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if name in _HEADS and value == heads:
            setattr(config, name, kept)
        elif name in _SHARED_HEADS:
            setattr(config, name, kept if value == heads else 1)
        elif name in _WIDTHS and value == width:
            setattr(config, name, own * kept)
        elif name in _INNER:
            setattr(config, name, min(value, INNER))


def _cut_vocabulary(config: PreTrainedConfig) -> None:
    """A small vocabulary; special tokens beyond it take its last places."""
    sizes = [name for name, value in vars(config).items() if name.startswith("vocab_size") and isinstance(value, int)]
    for name in sizes:
        setattr(config, name, min(getattr(config, name), TOKENS))
    if not sizes:
        return
    beyond = sorted({value for value in vars(config).values() if isinstance(value, int) and value >= TOKENS})
    place = {value: TOKENS - 1 - number % 16 for number, value in enumerate(beyond)}
    for name, value in list(vars(config).items()):
        if name.endswith("_token_id") and isinstance(value, list):
            setattr(config, name, [min(each, TOKENS - 1) for each in value])
        elif name.endswith(("_token_id", "_token_index")) and value in place:
            setattr(config, name, place[value])


def _build(settings: PreTrainedConfig, attention: Attention) -> PreTrainedModel:
    options = {"trust_remote_code": False, "attn_implementation": attention.value, "dtype": torch.float32}
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(copy.deepcopy(settings), **options)
    size = sum(parameter.numel() for parameter in outline.parameters())
    if size > LARGEST:
        raise ValueError(f"it cannot be made smaller than {size / 1e9:.1f} billion parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(settings, **options)
        assert isinstance(model, PreTrainedModel)
        _strengthen(model)
    model.eval().requires_grad_(False)
    return model


@torch.no_grad()
def _strengthen(model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    if head is not None:  # else a tied head would repeat the last token
        head.weight = nn.Parameter(torch.empty_like(head.weight))
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        if id(parameter) in embeddings:
            parameter.normal_(0, EMBEDDING_SCALE)
        elif parameter.ndim >= 2:
            parameter.normal_(0, MATRIX_SCALE / math.sqrt(math.prod(parameter.shape[1:])))
        else:
            parameter.add_(torch.randn_like(parameter), alpha=VECTOR_SCALE)
