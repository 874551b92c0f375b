"""What is asked of a rollout and what comes back, and how one token is chosen.

The noise of a completion is a given row of uniform numbers, one per token, turned into a token by the inverse of the
distribution function. So a completion depends on its own noise alone: not on its neighbours, their order, or when it
joins the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tinylora.engine.rows import Completions
from tinylora.settings.config import RolloutConfig


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen where they are sampled."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    end_bias: float = 0.0
    """Added to the logits of all tokens that end a completion, before the temperature."""

    @classmethod
    def of(cls, chosen: RolloutConfig) -> Sampling:
        """As the settings of a run have it."""
        return cls(chosen.max_new_tokens, chosen.temperature, chosen.top_p, chosen.end_bias)


@dataclass(frozen=True)
class Request:
    """What is to be sampled: `samples` completions of each of N prompts.

    `lane_of_prompt` is (N,); `noise` holds uniform numbers in [0, 1), (N * samples, max_new_tokens). A completion whose
    noise is NaN is decoded greedily: it shares its row with samples that say the same.
    """

    prompts: Sequence[Sequence[int]]
    lane_of_prompt: torch.Tensor
    noise: torch.Tensor
    sampling: Sampling
    samples: int = 1
    untrained: bool = False
    """From the model as it was before training, whatever the lanes are."""

    def of(self, prompts: Sequence[int]) -> Request:
        """The part of it that is about some prompts, by number."""
        chosen = torch.tensor(prompts, dtype=torch.long)
        rows = (chosen[:, None] * self.samples + torch.arange(self.samples)).flatten()
        own = [self.prompts[number] for number in prompts]
        return replace(self, prompts=own, lane_of_prompt=self.lane_of_prompt[chosen], noise=self.noise[rows])


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

    def completions(self, prompts: Sequence[Sequence[int]], lane_of_prompt: torch.Tensor) -> Completions:
        """All rows, with the prompts that they complete."""
        tokens = [row[:length] for row, length in zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)]
        return Completions(prompts, lane_of_prompt, tokens)


def joined(parts: Sequence[Rollout], samples: int, pad_token: int) -> Rollout:
    """The whole of n parts, of which part r has the prompts r, r + n, r + 2n, ..."""
    rows, width = sum(len(part.lengths) for part in parts), max(part.tokens.shape[1] for part in parts)
    tokens, lengths = torch.full((rows, width), pad_token), torch.zeros(rows, dtype=torch.long)
    logp, truncated = torch.zeros(rows, width), torch.zeros(rows, dtype=torch.bool)
    for rank, part in enumerate(parts):
        number = torch.arange(len(part.lengths))
        row = (number // samples * len(parts) + rank) * samples + number % samples
        tokens[row, : part.tokens.shape[1]], logp[row, : part.logp.shape[1]] = part.tokens, part.logp
        lengths[row], truncated[row] = part.lengths, part.truncated
    return Rollout(tokens, lengths, logp, truncated)


def biased(logits: torch.Tensor, ends: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits (A, V) with the bias of the end tokens (E,) in them, fp32; as they are where it is 0."""
    if sampling.end_bias == 0:
        return logits
    bias = torch.full((len(logits), len(ends)), sampling.end_bias, device=logits.device)
    return logits.float().index_add(-1, ends, bias)


def choose(logits: torch.Tensor, noise: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """A token per row (A,) and its log-probability (A,) from logits (A, V).

    The token at which the distribution function passes the row's `noise` (A,); the likeliest where that is NaN. The
    log-probability is that of the full softmax at the temperature, also where top_p cuts the choice.
    """
    logits = logits.float()
    log_probabilities = torch.log_softmax(logits / sampling.temperature, dim=-1)
    probabilities = _nucleus(log_probabilities.exp(), sampling.top_p)
    passed = probabilities.cumsum(-1)
    total = passed[:, -1]
    threshold = torch.minimum(noise * total, torch.nextafter(total, torch.zeros_like(total)))
    chosen = (passed <= threshold[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    greedy = noise.isnan().nonzero()[:, 0]
    chosen[greedy] = logits[greedy].argmax(-1)  # of fp32: that of 16-bit logits takes four times as long
    return chosen, log_probabilities.gather(-1, chosen[:, None])[:, 0]


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities (A, V) with all but the smallest set of mass `top_p` set to zero."""
    if top_p >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(outside.scatter(-1, order, outside), 0.0)
