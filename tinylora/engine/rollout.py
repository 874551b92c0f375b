"""Sampling completions for many lanes in one batch, with a key-value cache, on transformers models.

The noise of a completion is a given row of uniform numbers, one per token, turned into a token by the inverse of the
distribution function. So a completion depends on its own noise alone: not on its neighbours, their order, or when it
joins the batch.

A row of the batch is a branch: what some completions of one prompt have said so far, as long as they say the same. It
starts as the prompt itself, and is split where its completions choose different tokens. So what they have in common is
computed once. Rows whose completions have all ended are taken by new branches, or leave the batch now and then; and as
they do, waiting prompts join, longest first, up to the limits. All rows end in the same column of the cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional
from transformers import DynamicCache

from tinylora.adapters.base import AssignRows
from tinylora.engine.kv_cache import append_rows, can_append, copy_rows, new_cache, select_rows
from tinylora.engine.memory import out_of_memory
from tinylora.engine.rows import Completions
from tinylora.train.pack import Pack

DROP_SHARE = 0.125  # rows without completions leave the batch once they are this share of it
SPARE_PART = 16  # when the batch is made anew, one row in so many is added for branches to come


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

    def of(self, prompts: Sequence[int]) -> Request:
        """The part of it that is about some prompts, by number."""
        chosen = torch.tensor(prompts, dtype=torch.long)
        rows = (chosen[:, None] * self.samples + torch.arange(self.samples)).flatten()
        noise = None if self.noise is None else self.noise[rows]
        own = [self.prompts[number] for number in prompts]
        return replace(self, prompts=own, lane_of_prompt=self.lane_of_prompt[chosen], noise=noise)


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
    """Sample what is asked for; the ranks share the prompts. FailureError where a row does not fit into memory."""
    own = pack.ranks.own(range(len(request.prompts)))
    return joined(pack.ranks.gather(_roll_out(pack, request.of(own))), request.samples, pack.pad_token)


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


def _roll_out(pack: Pack, request: Request) -> Rollout:
    """What this rank samples."""
    if not request.prompts:
        return Rollout(
            torch.zeros(0, 0, dtype=torch.long),
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, 0),
            torch.zeros(0, dtype=torch.bool),
        )
    longest = max(map(len, request.prompts)) + request.sampling.max_new_tokens
    most_rows = max(1, min(pack.limits.rows, pack.limits.cached_tokens // longest))
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
    """The completions that are going, L of all B, and the A rows of the batch that they are branches of."""

    def __init__(self, pack: Pack, assign: AssignRows, request: Request, most_rows: int) -> None:
        self.pack, self.assign, self.request, self.most_rows = pack, assign, request, most_rows
        self.device, length = pack.model.device, request.sampling.max_new_tokens
        longest = [pack.room_after(prompt, length) for prompt in request.prompts for _ in range(request.samples)]
        self.longest = torch.tensor(longest, device=self.device)  # (B,) tokens at which a completion is cut
        self.lane_of_prompt = request.lane_of_prompt.to(self.device)
        self.noise = request.noise.to(self.device) if request.noise is not None else None
        self.ends = torch.tensor(sorted(pack.end_tokens), device=self.device)
        all_completions = len(request.prompts) * request.samples
        self.tokens = torch.full((all_completions, length), pack.pad_token, device=self.device)
        self.logp = torch.zeros((all_completions, length), device=self.device)
        self.lengths = torch.zeros(all_completions, dtype=torch.long, device=self.device)
        by_length = sorted(range(len(request.prompts)), key=lambda number: -len(request.prompts[number]))
        self.waiting = deque(n * request.samples + sample for n in by_length for sample in range(request.samples))

        nothing = torch.empty(0, dtype=torch.long, device=self.device)
        self.going, self.row = nothing, nothing  # (L,) number of the completion, row of the batch
        self.cache = new_cache(pack.model.config)
        self.prompt, self.position = nothing, nothing  # (A,) its prompt, the position of its last token
        self.mask = torch.empty((0, 0), dtype=torch.long, device=self.device)  # (A, S) 1: a token, 0: before the first
        self.logits = torch.empty((0, 0), device=self.device)  # (A, V) for the next token

    def fill(self) -> bool:
        """Let waiting completions join while there is room; False when all are done."""
        while self.waiting and len(self.going) < self.most_rows and (len(self.going) == 0 or can_append(self.cache)):
            self._join(self._next())
        return len(self.going) > 0

    def step(self) -> None:
        """One more token of every completion."""
        count = self.lengths[self.going]  # (L,) tokens so far
        noise = None if self.noise is None else self.noise[self.going, count]
        chosen, self.logp[self.going, count] = choose(self.logits[self.row], noise, self.request.sampling)
        self.tokens[self.going, count] = chosen
        self.lengths[self.going] = count + 1
        goes_on = ~torch.isin(chosen, self.ends) & (count + 1 < self.longest[self.going])
        self.going, self.row, chosen = self.going[goes_on], self.row[goes_on], chosen[goes_on]
        if len(self.going) == 0:
            return
        tokens = self._branch(chosen)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        self.position = self.position + 1
        if self.pack.decode_step is not None:
            self.logits = self.pack.decode_step(tokens, self.position, self.mask, self.cache)
        else:
            self.logits = self._forward(tokens[:, None], self.mask, self.position[:, None], self.cache)

    def _branch(self, chosen: torch.Tensor) -> torch.Tensor:
        """Split and drop rows by what their completions have chosen (L,); returns the token of every row (A,)."""
        rows, vocabulary = len(self.position), self.logits.shape[1]
        branches, of_completion = (self.row * vocabulary + chosen).unique(return_inverse=True)
        parents = branches // vocabulary  # (N,) in order
        second = functional.pad(parents[1:] == parents[:-1], (1, 0))  # (N,) True where the row itself is taken
        free = torch.ones(rows, dtype=torch.bool, device=self.device).index_fill_(0, parents, False).nonzero()[:, 0]
        splits = int(second.sum())
        if splits > (len(free) if can_append(self.cache) else 0) or len(parents) < (1 - DROP_SHARE) * rows:
            spare = len(parents) // SPARE_PART if self.request.samples > 1 else 0
            self._gather(torch.cat([parents, parents[:1].expand(spare)]))
            places = torch.arange(len(parents), device=self.device)
        else:
            places = parents.clone()
            places[second] = free[:splits]
            if splits:
                self._copy(parents[second], free[:splits])
        self.row = places[of_completion]
        return torch.zeros_like(self.position).index_copy_(0, places, branches % vocabulary)

    def result(self) -> Rollout:
        """All completions, when they are done."""
        width = int(self.lengths.max())
        last = self.tokens.gather(1, self.lengths[:, None] - 1)[:, 0]
        truncated = ~torch.isin(last, self.ends)
        return Rollout(self.tokens[:, :width].cpu(), self.lengths.cpu(), self.logp[:, :width].cpu(), truncated.cpu())

    def _next(self) -> list[int]:
        """The completions to join: as many as there is room for, with prompts that one pass can read."""
        free, samples = self.most_rows - len(self.going), self.request.samples
        longest = len(self.request.prompts[self.waiting[0] // samples])
        joining: list[int] = []
        prompts: set[int] = set()
        while self.waiting and len(joining) < free:
            prompts.add(self.waiting[0] // samples)
            if joining and len(prompts) * longest > self.pack.limits.pass_tokens:
                break
            joining.append(self.waiting.popleft())
        return joining

    def _join(self, joining: list[int]) -> None:
        """Read the prompts of some completions, each into a row behind those in the batch."""
        if len(self.going) == 0:  # a new batch
            self.cache = new_cache(self.pack.model.config)
            self.prompt, self.position = self.prompt[:0], self.position[:0]
            self.mask, self.logits = self.mask[:0, :0], self.logits[:0]
        samples, first = self.request.samples, len(self.prompt)
        places = {number: place for place, number in enumerate(dict.fromkeys(n // samples for n in joining), first)}
        ids, mask = left_pad([self.request.prompts[number] for number in places], self.pack.pad_token, self.device)
        positions, prompts = (mask.cumsum(1) - 1).clamp(min=0), torch.tensor(list(places), device=self.device)
        self.assign(self.lane_of_prompt[prompts])
        cache = new_cache(self.pack.model.config)
        logits = self._forward(ids, mask, positions, cache)
        if first:
            append_rows(self.cache, cache)
        else:
            self.cache = cache
        width = max(self.mask.shape[1], mask.shape[1])
        self.mask = torch.cat([functional.pad(m, (width - m.shape[1], 0)) for m in (self.mask, mask)])
        self.logits = torch.cat([self.logits, logits]) if first else logits
        self.prompt, self.position = torch.cat([self.prompt, prompts]), torch.cat([self.position, positions[:, -1]])
        self.going = torch.cat([self.going, torch.tensor(joining, device=self.device)])
        self.row = torch.cat([self.row, torch.tensor([places[n // samples] for n in joining], device=self.device)])
        self._assign()

    def _gather(self, rows: torch.Tensor) -> None:
        """Make the batch anew of some of its rows, and of the columns that these have."""
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax()) if can_append(self.cache) else 0
        select_rows(self.cache, rows, first)
        self.mask, self.prompt, self.position = mask[:, first:], self.prompt[rows], self.position[rows]
        self._assign()

    def _copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copy some rows over others."""
        copy_rows(self.cache, sources, targets)
        for values in (self.mask, self.prompt, self.position):
            values[targets] = values[sources]
        self._assign()

    def _assign(self) -> None:
        """Compute the rows that are in the batch now with their lanes."""
        matrices = self.assign(self.lane_of_prompt[self.prompt])
        if self.pack.decode_step is not None:
            self.pack.decode_step.assign(matrices)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits (A, V) for the token after the last column."""
        output = self.pack.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
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
