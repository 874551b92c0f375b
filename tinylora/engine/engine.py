"""The engine: a frozen model with the adapters of its lanes, and all that sampling and gradients need beside it.

It knows tokens and lanes, not tasks, texts or optimizers: those belong to the pack (`train.pack`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tinylora.adapters.base import Adapters
from tinylora.adapters.lora import Lora
from tinylora.adapters.tinylora import TinyLora
from tinylora.engine.decode_step import DecodeStep, can_step, fuse_weights
from tinylora.engine.layout import Layout, Reading
from tinylora.engine.memory import Limits, limits_of
from tinylora.engine.ranks import Ranks
from tinylora.engine.rows import row_width
from tinylora.models.load import context_length, text_config, usable
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError

WIDE = 512  # from this width on, products of matrices take most of the time on a processor


@dataclass(frozen=True)
class Engine:
    """What computes the rows of all lanes."""

    name: str  # of the model, for errors
    model: PreTrainedModel
    adapters: Adapters
    limits: Limits
    layout: Layout
    row_width: int  # of rows of completions in training, in tokens
    context: int | None  # longest sequence of the model, in tokens; None: it names none
    pad_token: int  # fills batches
    end_tokens: frozenset[int]  # each ends a completion
    decode_step: DecodeStep | None  # None: transformers reads the tokens of a rollout one by one, too
    ranks: Ranks = field(default_factory=Ranks)  # the processes that compute together

    def room_after(self, prompt: Sequence[int], wanted: int) -> int:
        """How many tokens may follow a prompt: `wanted`, or less where the model's context ends before.

        Raises UsageError where the prompt alone fills the context.
        """
        if self.context is None:
            return wanted
        if len(prompt) >= self.context:
            raise UsageError(
                f"a prompt of {len(prompt)} tokens for {self.name}",
                f"it reads at most {self.context} tokens, prompt and completion together",
                "take a model of longer context, or a task with shorter prompts",
            )
        return min(wanted, self.context - len(prompt))


def build_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    end_tokens: frozenset[int],
    adapters: Adapters,
    layout: Layout,
    config: RunConfig,
    ranks: Ranks,
) -> Engine:
    """The engine of a model whose adapters are in place; `config` is that of any lane."""
    pad_token = tokenizer.pad_token_id
    assert isinstance(pad_token, int), "models are loaded with a tokenizer that pads"
    return Engine(
        name=config.model.identity,
        model=model,
        adapters=adapters,
        limits=limits_of(model, adapters, config, ranks.count),
        layout=layout,
        row_width=row_width(model.config, layout),
        context=usable(context_length(model.config), layout.lost_positions),
        pad_token=pad_token,
        end_tokens=end_tokens,
        decode_step=decode_step_of(model, adapters, layout),
        ranks=ranks,
    )


def decode_step_of(model: PreTrainedModel, adapters: Adapters, layout: Layout) -> DecodeStep | None:
    """The fast reading of single tokens, for models that have it. It moves their weights (`fuse_weights`)."""
    if layout.reading is not Reading.padded or not can_step(model) or isinstance(adapters, Lora):
        return None
    return DecodeStep(model, adapters if isinstance(adapters, TinyLora) else None, fuse_weights(model))


def advice_for(model: PreTrainedModel) -> str | None:
    """A sentence that recommends bf16, where the processor that computes a wide fp32 model is faster in it.

    Nothing chooses it: another type of the base model is another run.
    """
    fp32 = model.device.type == "cpu" and model.dtype is torch.float32
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # PyTorch's own, and not for others to rely on
    if not fp32 or text_config(model.config).hidden_size < WIDE or supported is None or not supported():
        return None
    return (
        "this processor computes in bf16, too: with model.dtype=bf16 a step of SmolLM2-135M took 0.7 of the time, and "
        "v is stored as `precision` says as before"
    )
