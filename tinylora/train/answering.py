"""What a model says to texts of one's own, with an adapter and without it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Sampling
from tinylora.settings.errors import first_line, require
from tinylora.train.pack import Pack


@dataclass(frozen=True)
class Said:
    """A completion."""

    text: str
    tokens: int
    """The end token included."""
    cut: bool
    """Whether it had not ended at rollout.max_new_tokens, or at the end of the model's context."""


def answer(pack: Pack, texts: Sequence[str], untrained: bool = False) -> list[Said]:
    """What the first lane says to each text, greedily; with `untrained` the model as it was before training.

    Texts are continued, or are the user's messages where the task of the pack is a conversation. Raises UsageError
    where one cannot be asked.
    """
    prompts = [_encoded(pack, text) for text in texts]
    chosen = pack.config.rollout
    sampling = Sampling.of(chosen)
    greedy = torch.full((len(prompts), chosen.max_new_tokens), math.nan)
    lanes = torch.zeros(len(prompts), dtype=torch.long)
    rollout = roll_out(pack.engine, Request(prompts, lanes, greedy, sampling, untrained=untrained))
    decoded = pack.decode([rollout.completion(row) for row in range(len(prompts))])
    facts = zip(decoded, rollout.lengths.tolist(), rollout.truncated.tolist(), strict=True)
    return [Said(text, length, cut) for text, length, cut in facts]


def _encoded(pack: Pack, text: str) -> list[int]:
    """The tokens of a prompt. Some tokenizers leave out what they do not know, without a word."""
    try:
        tokens, of_nothing = pack.form.prompts([text, ""])
        why = "it knows none of its characters" if tokens in ([], of_nothing) else None
    except Exception as error:  # the Rust tokenizers raise bare Exception
        tokens, why = [], first_line(error)
    require(
        why is None,
        f"prompt {text[:80]!r}",
        f"the tokenizer of {pack.engine.name} makes tokens of a prompt: {why}",
        "give a prompt of characters that it knows",
    )
    return tokens
