"""Sampling completions for many lanes in one batch, with a key-value cache, on transformers models.

A row of the batch is a *branch*: what some completions of one prompt have said so far, as long as they say the same. It
starts as the prompt itself, and is split where its completions choose different tokens. So what
completions have in common that join together is computed once. Rows whose completions have all ended are taken by new
branches, or leave the batch now and then. When enough completions have ended (`Limits.refill`), waiting ones join,
those of the longest prompts first, up to the limits. All rows end in the same column of the cache.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import DynamicCache

from tinylora.adapters.base import AssignRows
from tinylora.engine.engine import Engine
from tinylora.engine.kv_cache import append_rows, can_append, copy_rows, new_cache, read_tokens, select_rows
from tinylora.engine.layout import Reading
from tinylora.engine.memory import out_of_memory
from tinylora.engine.rows import last_column
from tinylora.engine.sampling import Request, Rollout, biased, choose, joined

DROP_SHARE = 0.125  # rows without completions leave the batch once they are this share of it
SECONDS_UNTOLD = 1.0
SPARE_PART = 16  # when the batch is made anew, one spare row is added for every 16, for later branches

Tell = Callable[[float], None]


def roll_out(engine: Engine, request: Request, tell: Tell = lambda share: None) -> Rollout:
    """Sample what is asked for; the ranks share the prompts. FailureError where a row does not fit into memory.

    `tell` is called now and then with the share that is done, 0 to 1, as if no completion ended early.
    """
    own = engine.ranks.own(range(len(request.prompts)))
    return joined(engine.ranks.gather(_roll_out(engine, request.of(own), tell)), request.samples, engine.pad_token)


def _roll_out(engine: Engine, request: Request, tell: Tell) -> Rollout:
    if not request.prompts:
        return Rollout(
            torch.zeros(0, 0, dtype=torch.long),
            torch.zeros(0, dtype=torch.long),
            torch.zeros(0, 0),
            torch.zeros(0, dtype=torch.bool),
        )
    longest = max(map(len, request.prompts)) + request.sampling.max_new_tokens
    most_rows = max(1, min(engine.limits.rows, engine.limits.cached_tokens // longest))
    while True:
        try:
            return _decode(engine, request, most_rows, tell)
        except torch.OutOfMemoryError as error:
            if most_rows == 1:
                raise out_of_memory("decoding one row", engine.name) from error
            most_rows = min(most_rows, len(request.prompts) * request.samples) // 2 or 1


@torch.inference_mode()
def _decode(engine: Engine, request: Request, most_rows: int, tell: Tell) -> Rollout:
    with _untrained(engine) if request.untrained else engine.adapters.rows(request.lane_of_prompt) as assign:
        decoder, told = Decoder(engine, assign, request, most_rows), time.monotonic()
        while decoder.fill():
            decoder.step()
            if time.monotonic() - told > SECONDS_UNTOLD:
                tell(decoder.share())
                told = time.monotonic()
        return decoder.result()


@contextmanager
def _untrained(engine: Engine) -> Iterator[AssignRows]:
    """Inside, all rows are read by the base model; a model that is trained itself is as it was before."""
    with engine.adapters.base() as parameters:
        own = dict(engine.model.named_parameters())
        trained = {name: own[name].detach().clone() for name in parameters}
        try:
            for name, value in parameters.items():
                own[name].data.copy_(value)  # in place: the decode step reads views of them
            yield lambda lanes: None
        finally:
            for name, value in trained.items():
                own[name].data.copy_(value)


class Decoder:
    """The completions that are still going, of all B, and the A rows (branches) that they belong to."""

    def __init__(self, engine: Engine, assign: AssignRows, request: Request, most_rows: int) -> None:
        self.engine, self.assign, self.request, self.most_rows = engine, assign, request, most_rows
        self.device, length = engine.model.device, request.sampling.max_new_tokens
        longest = [engine.room_after(prompt, length) for prompt in request.prompts for _ in range(request.samples)]
        self.longest = torch.tensor(longest, device=self.device)  # (B,) tokens at which a completion is cut
        self.lane_of_prompt = request.lane_of_prompt.to(self.device)
        self.noise = request.noise.to(self.device)
        self.ends = torch.tensor(sorted(engine.end_tokens), device=self.device)
        all_completions = len(request.prompts) * request.samples
        self.tokens = torch.full((all_completions, length), engine.pad_token, device=self.device)
        self.logp = torch.zeros((all_completions, length), device=self.device)
        self.lengths = torch.zeros(all_completions, dtype=torch.long, device=self.device)
        by_length = sorted(range(len(request.prompts)), key=lambda number: -len(request.prompts[number]))
        self.waiting = deque(n * request.samples + sample for n in by_length for sample in range(request.samples))

        nothing = torch.empty(0, dtype=torch.long, device=self.device)
        self.going, self.row = nothing, nothing  # (going,) number of the completion, row of the batch
        self.cache = self._new_cache()
        self.prompt, self.position = nothing, nothing  # (A,) its prompt, the position of its last token
        self.mask = torch.empty((0, 0), dtype=torch.long, device=self.device)  # (A, S) 1: a token, 0: before the first
        self.logits = torch.empty((0, 0), device=self.device)  # (A, V) for the next token

    def fill(self) -> bool:
        """Let waiting completions join where there is much room; False when all are done."""
        if len(self.going) <= self.engine.limits.refill * self.most_rows:
            while self.waiting and len(self.going) < self.most_rows and (len(self.going) == 0 or self._can_join()):
                self._join(self._next())
        return len(self.going) > 0

    def _can_join(self) -> bool:
        """Whether rows can join others that are longer."""
        return self.engine.layout.reading is Reading.padded and can_append(self.cache)

    def step(self) -> None:
        """One more token of every completion."""
        count = self.lengths[self.going]  # (going,) tokens so far
        noise, sampling = self.noise[self.going, count], self.request.sampling
        logits = biased(self.logits[self.row], self.ends, sampling)
        chosen, self.logp[self.going, count] = choose(logits, noise, sampling)
        self.tokens[self.going, count] = chosen
        self.lengths[self.going] = count + 1
        goes_on = ~torch.isin(chosen, self.ends) & (count + 1 < self.longest[self.going])
        self.going, self.row, chosen = self.going[goes_on], self.row[goes_on], chosen[goes_on]
        if len(self.going) == 0:
            return
        tokens = self._branch(chosen)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        self.position = self.position + 1
        if self.engine.decode_step is not None:
            self.logits = self.engine.decode_step(tokens, self.position, self.mask, self.cache)
        else:
            self.logits = self._forward(tokens[:, None], self.mask, self.position[:, None], self.cache)

    def _branch(self, chosen: torch.Tensor) -> torch.Tensor:
        """Split and drop rows by what their completions have chosen (going,); returns the token of every row (A,).

            before                     chosen tokens           after
            row 0: completions 0 1 2   0 -> a, 1 -> a, 2 -> b  row 0: 0 1, which said a
            row 1: completion 3        3 has ended             row 1: 2, which said b (row 0 was copied here)
            row 2: completions 4 5     4 -> c, 5 -> c          row 2: 4 5, which said c

        The first branch of a row stays in its place; each further one is copied into a row that is free. Where too few
        rows are free, or too many, the batch is made anew: a row for each branch, and some to spare.
        """
        rows, vocabulary = len(self.position), self.logits.shape[1]
        branches, of_completion = (self.row * vocabulary + chosen).unique(return_inverse=True)
        parents = branches // vocabulary  # (branches,) in order
        second = functional.pad(parents[1:] == parents[:-1], (1, 0))  # (branches,) True but for the first of a row
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

    def share(self) -> float:
        """How much is done, 0 to 1: completions that have ended, and of the others their tokens of the most allowed."""
        part = (self.lengths[self.going] / self.longest[self.going]).sum()
        return 1 - (len(self.waiting) + len(self.going) - float(part)) / len(self.lengths)

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
        unpadded = self.engine.layout.reading is not Reading.padded
        while self.waiting and len(joining) < free:
            prompts.add(self.waiting[0] // samples)
            if joining and len(prompts) * longest > self.engine.limits.pass_tokens:
                break
            if unpadded and len(self.request.prompts[self.waiting[0] // samples]) < longest:
                break
            joining.append(self.waiting.popleft())
        return joining

    def _join(self, joining: list[int]) -> None:
        """Read the prompts of some completions, each into a row behind those in the batch."""
        if len(self.going) == 0:  # a new batch
            self.cache = self._new_cache()
            self.prompt, self.position = self.prompt[:0], self.position[:0]
            self.mask, self.logits = self.mask[:0, :0], self.logits[:0]
        samples, first = self.request.samples, len(self.prompt)
        places = {number: place for place, number in enumerate(dict.fromkeys(n // samples for n in joining), first)}
        ids, mask = left_pad([self.request.prompts[number] for number in places], self.engine.pad_token, self.device)
        positions, prompts = (mask.cumsum(1) - 1).clamp(min=0), torch.tensor(list(places), device=self.device)
        self.assign(self.lane_of_prompt[prompts])
        cache = self._new_cache()
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
        """Rebuild the batch from some of its rows; columns in which none of them has a token are dropped."""
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax()) if can_append(self.cache) else 0
        select_rows(self.cache, rows, first)
        self.mask, self.prompt, self.position = mask[:, first:], self.prompt[rows], self.position[rows]
        self._assign()

    def _copy(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        copy_rows(self.cache, sources, targets)
        for values in (self.mask, self.prompt, self.position):
            values[targets] = values[sources]
        self._assign()

    def _assign(self) -> None:
        """Tell the adapters which lane each row of the batch has now."""
        matrices = self.assign(self.lane_of_prompt[self.prompt])
        if self.engine.decode_step is not None:
            self.engine.decode_step.assign(matrices)

    def _new_cache(self) -> DynamicCache:
        return new_cache(self.engine.model.config, self.engine.layout.reading)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits (A, V) for the token after the last column."""
        model, reading = self.engine.model, self.engine.layout.reading
        inputs: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
        if reading is Reading.anew:
            ids, inputs = read_tokens(cache, ids), {"use_cache": False}
        elif reading is Reading.padded:
            inputs |= {"attention_mask": mask, "position_ids": positions}
        with last_column(model):
            output = model(input_ids=ids, **inputs)
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def left_pad(
    prompts: Sequence[Sequence[int]], pad_token: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (1: a token), both (N, S), with the padding on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_token] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask
