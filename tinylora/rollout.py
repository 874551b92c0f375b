"""Sampling completions for many lanes in one batch, with a key-value cache, on transformers models.

Every row is a completion to sample; rows carry their lane. The noise of a row is a given row of uniform numbers, one
per token, turned into a token by the inverse of the distribution function. So a completion depends on its own noise
alone: not on its neighbours, the order of rows, or when a row joins the batch.

As many rows are decoded at once as the limits allow, longest prompts first. Rows that have ended leave the batch, and
waiting ones take their place: their prompts are read (once each, not once a sample) and their keys and values are put
in front of the column that is written next, like those of all other rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import DynamicCache

from tinylora.adapter import AssignRows
from tinylora.batches import Completions
from tinylora.kv_cache import append_rows, can_append, new_cache, select_rows
from tinylora.memory import out_of_memory
from tinylora.pack import Pack

DROP_SHARE = 0.125  # rows that have ended leave the batch once they are this share of it


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature=None` is greedy."""

    max_new_tokens: int
    temperature: float | None = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Request:
    """What is to be sampled: `samples` completions of each of N prompts.

    `lane_of_prompt` is (N,); `noise` holds uniform numbers in [0, 1), (N * samples, max_new_tokens), or is None for
    greedy decoding.
    """

    prompts: Sequence[Sequence[int]]
    lane_of_prompt: torch.Tensor
    noise: torch.Tensor | None
    sampling: Sampling
    samples: int = 1


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


def roll_out(pack: Pack, request: Request) -> Rollout:
    """Sample what is asked for. Raises FailureError where a single row does not fit into memory."""
    longest = max(map(len, request.prompts)) + request.sampling.max_new_tokens
    most_rows = max(1, pack.limits.cached_tokens // longest)
    while True:
        try:
            return _decode(pack, request, most_rows)
        except torch.OutOfMemoryError as error:
            if most_rows == 1:
                raise out_of_memory("decoding one row", pack.config) from error
            most_rows = min(most_rows, len(request.prompts) * request.samples) // 2 or 1


@torch.inference_mode()
def _decode(pack: Pack, request: Request, most_rows: int) -> Rollout:
    with pack.adapter.rows(request.lane_of_prompt) as assign:
        decoder = Decoder(pack, assign, request, most_rows)
        while decoder.fill():
            decoder.step()
        return decoder.result()


class Decoder:
    """The rows that are decoded now: A of B, with what the model needs to go on with each.

    All tensors of the first group are (B, ...) over all rows, those of the second (A, ...) over the rows in the batch.
    """

    def __init__(self, pack: Pack, assign: AssignRows, request: Request, most_rows: int) -> None:
        self.pack, self.assign, self.request, self.most_rows = pack, assign, request, most_rows
        self.device, length = pack.model.device, request.sampling.max_new_tokens
        rows = len(request.prompts) * request.samples
        self.lane_of_row = request.lane_of_prompt.to(self.device).repeat_interleave(request.samples)
        self.noise = request.noise.to(self.device) if request.noise is not None else None
        self.ends = torch.tensor(sorted(pack.end_tokens), device=self.device)
        # One column more than there are tokens: rows that have ended and not yet left write behind their end.
        self.tokens = torch.full((rows, length + 1), pack.pad_token, device=self.device)
        self.logp = torch.zeros((rows, length + 1), device=self.device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=self.device)
        by_length = sorted(range(len(request.prompts)), key=lambda number: -len(request.prompts[number]))
        self.waiting = deque(n * request.samples + sample for n in by_length for sample in range(request.samples))

        self.cache: DynamicCache | None = None
        self.row = torch.empty(0, dtype=torch.long, device=self.device)  # (A,) which of the B
        self.mask = torch.empty((0, 0), dtype=torch.long, device=self.device)  # (A, S) 1: a token, 0: padding before it
        self.position = self.row  # (A,) of the last token that was read
        self.logits = torch.empty((0, 0), device=self.device)  # (A, V) for the next token
        self.live = torch.empty(0, dtype=torch.bool, device=self.device)  # (A,) False where a row has ended

    def fill(self) -> bool:
        """Let waiting rows join while there is room; False when all rows are done."""
        while self.waiting and len(self.row) < self.most_rows and (len(self.row) == 0 or can_append(self.cache)):
            self._join(self._next_rows())
        return len(self.row) > 0

    def step(self) -> None:
        """One more token of every row; those that have ended leave now and then."""
        count = self.lengths[self.row]  # (A,) tokens so far; those of rows that have ended stay
        last = self.request.sampling.max_new_tokens - 1
        noise = None if self.noise is None else self.noise[self.row, count.clamp(max=last)]
        chosen, self.logp[self.row, count] = choose(self.logits, noise, self.request.sampling)
        self.tokens[self.row, count] = chosen
        self.lengths[self.row] = count + self.live
        self.live = self.live & ~torch.isin(chosen, self.ends) & (count < last)
        going = int(self.live.sum())
        if going == 0:
            self.row = self.row[:0]
            return
        if going <= (1 - DROP_SHARE) * len(self.row):
            chosen = self._keep(self.live.nonzero()[:, 0], chosen)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.row), 1)], dim=1)
        self.position = self.position + 1
        assert self.cache is not None
        if self.pack.decode_step is not None:
            self.logits = self.pack.decode_step(chosen, self.position, self.mask, self.cache)
        else:
            self.logits = self._forward(chosen[:, None], self.mask, self.position[:, None], self.cache)

    def result(self) -> Rollout:
        """The completions of all rows, when all are done."""
        width = int(self.lengths.max())
        padding = torch.arange(width, device=self.device) >= self.lengths[:, None]  # (B, T)
        tokens = self.tokens[:, :width].masked_fill(padding, self.pack.pad_token)
        last = tokens.gather(1, self.lengths[:, None] - 1)[:, 0]
        logp = self.logp[:, :width].masked_fill(padding, 0.0)
        return Rollout(tokens.cpu(), self.lengths.cpu(), logp.cpu(), ~torch.isin(last, self.ends).cpu())

    def _next_rows(self) -> list[int]:
        """The rows to join: as many as there is room for, with prompts that one pass can read."""
        free, samples = self.most_rows - len(self.row), self.request.samples
        longest = len(self.request.prompts[self.waiting[0] // samples])
        rows: list[int] = []
        prompts: set[int] = set()
        while self.waiting and len(rows) < free:
            prompts.add(self.waiting[0] // samples)
            if rows and len(prompts) * longest > self.pack.limits.pass_tokens:
                break
            rows.append(self.waiting.popleft())
        return rows

    def _join(self, rows: list[int]) -> None:
        """Read the prompts of some rows and put the rows behind those in the batch."""
        samples = self.request.samples
        places = {number: place for place, number in enumerate(dict.fromkeys(row // samples for row in rows))}
        here = torch.tensor([places[row // samples] for row in rows], device=self.device)
        ids, mask = left_pad([self.request.prompts[number] for number in places], self.pack.pad_token, self.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = new_cache(self.pack.model.config)
        self.assign(self.lane_of_row[[number * samples for number in places]])
        logits = self._forward(ids, mask, positions, cache)[here]
        joining, mask, position = torch.tensor(rows, device=self.device), mask[here], positions[here, -1]
        if len(self.row) == 0:
            select_rows(cache, here)
            self.cache, self.row, self.mask, self.position, self.logits = cache, joining, mask, position, logits
            self.live = torch.ones_like(joining, dtype=torch.bool)
        else:
            assert self.cache is not None
            append_rows(self.cache, cache, here)
            width = max(self.mask.shape[1], mask.shape[1])
            self.mask = torch.cat([functional.pad(m, (width - m.shape[1], 0)) for m in (self.mask, mask)])
            self.row, self.position = torch.cat([self.row, joining]), torch.cat([self.position, position])
            self.logits = torch.cat([self.logits, logits])
            self.live = functional.pad(self.live, (0, len(rows)), value=True)
        self._assign()

    def _keep(self, kept: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Shrink the batch to some of its rows, and to the columns that these have; returns their chosen tokens."""
        mask = self.mask[kept]
        first = int(mask.any(0).int().argmax()) if can_append(self.cache) else 0
        assert self.cache is not None
        select_rows(self.cache, kept, first)
        self.mask, self.row, self.position = mask[:, first:], self.row[kept], self.position[kept]
        self.live = self.live[kept]
        self._assign()
        return chosen[kept]

    def _assign(self) -> None:
        """Compute the rows that are in the batch now with their lanes."""
        matrices = self.assign(self.lane_of_row[self.row])
        if self.pack.decode_step is not None:
            self.pack.decode_step.assign(matrices)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits (A, V) for the token after the last column."""
        output = self.pack.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        logits: torch.Tensor = output.logits[:, -1]
        return logits


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
