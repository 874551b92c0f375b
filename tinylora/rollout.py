"""Sampling completions for many lanes in one batch, with a key-value cache, on transformers models.

Every row is a completion to sample; rows carry their lane. The noise of a row is a given row of uniform numbers, one
per token, turned into a token by the inverse of the distribution function. So a completion depends on its own noise
alone: not on its neighbours, the order of rows, or how a batch is split.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tinylora.adapter import TinyLora
from tinylora.kv_cache import new_cache

DROP_SHARE = 0.125  # finished rows leave the batch once they are this share of it


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature=None` is greedy."""

    max_new_tokens: int
    temperature: float | None = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Rollout:
    """Completions of B rows, on the CPU; row b belongs to prompt b // samples."""

    tokens: torch.Tensor  # (B, T) completion tokens, the end token included, then padding
    lengths: torch.Tensor  # (B,) tokens per completion
    logp: torch.Tensor  # (B, T) the sampler's log-probabilities at its temperature, 0 in the padding
    truncated: torch.Tensor  # (B,) True where the end token did not come in time

    def completion(self, row: int) -> list[int]:
        """The tokens of one row."""
        return self.tokens[row, : int(self.lengths[row])].tolist()


@torch.inference_mode()
def roll_out(
    model: PreTrainedModel,
    adapter: TinyLora,
    prompts: Sequence[Sequence[int]],
    lane_of_prompt: torch.Tensor,
    noise: torch.Tensor | None,
    sampling: Sampling,
    samples: int,
    end_tokens: Collection[int],
    pad_token: int,
) -> Rollout:
    """Sample `samples` completions of each prompt.

    `lane_of_prompt` is (N,); `noise` holds uniform numbers in [0, 1), (N * samples, max_new_tokens), or is None for
    greedy decoding. Each prompt is read once and its cache repeated for its samples.
    """
    rows, device = len(prompts) * samples, model.device
    tokens = torch.full((rows, sampling.max_new_tokens), pad_token, device=device)
    logp = torch.zeros((rows, sampling.max_new_tokens), device=device)
    lengths = torch.full((rows,), sampling.max_new_tokens, device=device)
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    ends = torch.tensor(sorted(end_tokens), device=device)
    noise = noise.to(device) if noise is not None else None
    ids, mask = left_pad(prompts, pad_token, device)
    with adapter.rows(lane_of_prompt):
        cache = new_cache(model.config, ids.shape[1] + sampling.max_new_tokens)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = _forward(model, ids, mask, positions, cache)
        here = torch.arange(len(prompts), device=device).repeat_interleave(samples)
        cache.batch_select_indices(here)
        adapter.select_rows(here)
        logits, mask, position = logits[here], mask[here], positions[here, -1:]
        row = torch.arange(rows, device=device)  # which row of the result each row of the batch is
        for step in range(sampling.max_new_tokens):
            chosen, chosen_logp = choose(logits, None if noise is None else noise[row, step], sampling)
            live = ~ended[row]
            tokens[row[live], step] = chosen[live]
            logp[row[live], step] = chosen_logp[live]
            stopped = row[live & torch.isin(chosen, ends)]
            lengths[stopped] = step + 1
            ended[stopped] = True
            gone = int(ended[row].sum())
            if gone == len(row) or step + 1 == sampling.max_new_tokens:
                break
            if gone >= DROP_SHARE * len(row):
                kept = (~ended[row]).nonzero()[:, 0]
                cache.batch_select_indices(kept)
                adapter.select_rows(kept)
                row, chosen, mask, position = row[kept], chosen[kept], mask[kept], position[kept]
            mask = torch.cat([mask, mask.new_ones(len(row), 1)], dim=1)
            position = position + 1
            logits = _forward(model, chosen[:, None], mask, position, cache)
    longest = int(lengths.max())
    return Rollout(tokens[:, :longest].cpu(), lengths.cpu(), logp[:, :longest].cpu(), ~ended.cpu())


def choose(logits: torch.Tensor, noise: torch.Tensor | None, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """A token per row (A,) and its log-probability (A,) from logits (A, V).

    Greedy without temperature; else the token at which the distribution function passes the row's `noise` (A,). The
    log-probability is that of the full softmax at the temperature, also where top_p cuts the choice.
    """
    logits = logits.float() / (sampling.temperature or 1.0)
    log_probabilities = torch.log_softmax(logits, dim=-1)
    if sampling.temperature is None:
        chosen = logits.argmax(-1)
    else:
        assert noise is not None, "sampling needs noise"
        probabilities = _nucleus(log_probabilities.exp(), sampling.top_p)
        passed = probabilities.cumsum(-1)
        total = passed[:, -1]
        threshold = torch.minimum(noise * total, torch.nextafter(total, torch.zeros_like(total)))
        chosen = (passed <= threshold[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    return chosen, log_probabilities.gather(-1, chosen[:, None])[:, 0]


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities (A, V) with all but the smallest set of mass `top_p` set to zero."""
    if top_p >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(outside.scatter(-1, order, outside), 0.0)


def left_pad(
    prompts: Sequence[Sequence[int]], pad_token: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (1: a token), both (N, S), with the padding on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_token] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def _forward(model, ids, mask, positions, cache) -> torch.Tensor:  # type: ignore[no-untyped-def]
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    last: torch.Tensor = output.logits[:, -1]
    return last
