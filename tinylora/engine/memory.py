"""How much of a pack is computed at once: limits on tokens from a budget of memory.

    rows            completions that are decoded together, each of which chooses from a whole vocabulary
    cached tokens   keys and values of all of them
    pass tokens     of one forward (and backward) pass, padding included
    refill          as soon as at most this share of the rows goes on, completions that wait join them

They change how the work is cut, and results by no more than rounding. The bytes of a choice and of a cached token
follow from the config. Those of a token in training are measured on a short row: what autograd keeps, doubled for
temporary tensors.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tinylora.adapters.base import Adapters
from tinylora.adapters.mixing import LARGE
from tinylora.adapters.tinylora import TinyLora
from tinylora.models.load import recomputed_blocks, recomputing, text_config
from tinylora.settings.config import AUTO, RunConfig
from tinylora.settings.errors import FailureError
from tinylora.settings.groups import AUTO_SHARE, CACHE_SHARE, PACKS_AT_ONCE

GIB = 2**30
CHOICE_BYTES = 16  # for every row and token of the vocabulary: a few fp32 numbers at once
MATRIX_COPIES = 3  # of R for every row in a decoding batch: gathered, transposed, and while one replaces another
PROBE_TOKENS = 32
# More tokens at once are slower on a processor, whose caches they leave; the number for an accelerator is not measured.
FASTEST_PASS = {"cpu": 4096, "cuda": 65536}
FASTEST_ROWS = {"cpu": 4096}
# To join copies the caches of all rows. A processor, whose steps cost by the row, does so when none goes on; on an
# accelerator a step with few rows takes as long as one with many. The share there is not measured.
REFILL = {"cpu": 0.0, "cuda": 0.75}


@dataclass(frozen=True)
class Limits:
    """What is done at once."""

    rows: int
    cached_tokens: int
    pass_tokens: int
    refill: float = 1.0


def limits_of(model: PreTrainedModel, adapter: Adapters, config: RunConfig, ranks: int = 1) -> Limits:
    """The limits that keep each of the ranks of a pack within `pack.memory_gib`, beside the model."""
    budget = budget_of(model, config, ranks)
    choice = CHOICE_BYTES * text_config(model.config).vocab_size
    if isinstance(adapter, TinyLora) and adapter.rank <= LARGE:
        choice += MATRIX_COPIES * 4 * len(adapter.names) * adapter.rank**2  # R of the row
    device = model.device.type
    rows = min(int(budget * (1 - CACHE_SHARE) / choice), FASTEST_ROWS.get(device, sys.maxsize))
    cached = int(budget * CACHE_SHARE / cached_token_bytes(model))
    trained = int(budget / (2 * trained_token_bytes(model, adapter)))
    return Limits(max(rows, 1), max(cached, 1), max(min(trained, FASTEST_PASS[device]), 1), REFILL[device])


def budget_of(model: PreTrainedModel, config: RunConfig, ranks: int) -> float:
    """Bytes for the rows of each of the ranks of a pack: `pack.memory_gib`.

    `auto` is a share of what the machine has, used or not, so that a resumed run cuts its work alike. Ranks have a GPU
    each, but share a processor's memory, also with the other packs of a job (PACKS_AT_ONCE).
    """
    if config.pack.memory_gib != AUTO:
        return float(config.pack.memory_gib) * GIB
    if model.device.type == "cuda":
        return AUTO_SHARE * float(torch.cuda.get_device_properties(model.device).total_memory)
    sharing = ranks * int(os.environ.get(PACKS_AT_ONCE) or 1)
    return AUTO_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / sharing


def cached_token_bytes(model: PreTrainedModel) -> int:
    """Bytes of the keys and values of one token in all layers."""
    config = text_config(model.config)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def trained_token_bytes(model: PreTrainedModel, adapter: Adapters) -> int:
    """Bytes that autograd keeps for one token of a training pass, its logits included: measured.

    With gradient checkpointing: beside the logits, the input of every block and, in turn, what one block keeps.
    """
    whole = _kept_bytes(model, adapter)
    blocks = len(recomputed_blocks(model))
    if blocks == 0:
        return whole + 1
    with recomputing(model):
        outside = _kept_bytes(model, adapter)
    inputs = blocks * int(text_config(model.config).hidden_size) * model.dtype.itemsize
    return outside + (whole - outside) // blocks + inputs + 1


def _kept_bytes(model: PreTrainedModel, adapter: Adapters) -> int:
    """Bytes for one token of the tensors that autograd saves, parameters and what lanes are made of apart."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def cut(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output.detach().requires_grad_()  # else an untrained model keeps nothing

    ids = torch.zeros((1, PROBE_TOKENS), dtype=torch.long, device=model.device)
    leaves = adapter.form().leaves
    frozen = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *adapter.buffers(), *leaves)}
    with (
        model.get_input_embeddings().register_forward_hook(cut),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        adapter.rows(torch.zeros(1, dtype=torch.long), leaves) as assign,
    ):
        rows = assign(torch.zeros(1, dtype=torch.long))
        if rows is not None and rows.slots is not None:  # R of the lane, however many tokens it has
            frozen.add(rows.matrices.untyped_storage().data_ptr())
        probe = model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
    assert probe.grad_fn is not None, "all that is kept lives as long as this: no address stands for two tensors"
    return sum(size for pointer, size in kept.items() if pointer not in frozen) // PROBE_TOKENS


def out_of_memory(what: str, model: str) -> FailureError:
    """The error for a piece of work that cannot be cut any smaller; `model` is its name."""
    return FailureError(
        f"out of memory at {what} of {model}",
        "work is cut until it fits, down to one row",
        "lower rollout.max_new_tokens, give model.gradient_checkpointing=true or model.dtype=bf16, or take a smaller "
        "model or a larger device",
    )
