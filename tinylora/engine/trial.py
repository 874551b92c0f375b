"""Trying out how a model may be read: the engine's rows beside plain passes, on the model's config in small.

A small model of the family, with two lanes of strong updates, reads completions as in training and as in a rollout.
Each is held against the plain pass: the weights of one lane merged, one sequence alone, no padding, positions, mask or
cache. What differs is left out of the layout; a family for which nothing is right is refused.

The longest row is as long as those get that completions share in the true model, so windows that are shorter show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.func import functional_call
from transformers import PreTrainedConfig, PreTrainedModel

from tinylora.adapters.basis import compute_basis
from tinylora.adapters.lane import LaneSpec
from tinylora.adapters.tinylora import TinyLora
from tinylora.engine.engine import Engine, decode_step_of
from tinylora.engine.layout import Layout, Reading
from tinylora.engine.memory import Limits
from tinylora.engine.rollout import roll_out
from tinylora.engine.rows import (
    Completions,
    completion_logps,
    lay_out,
    micro_batches,
    numbers,
    row_width,
)
from tinylora.engine.sampling import Request, Rollout, Sampling
from tinylora.models.load import context_length, text_config
from tinylora.models.maps import adapted_modules, weight_of
from tinylora.models.reduced import reduced_models
from tinylora.settings.choices import Attention, Solver
from tinylora.settings.errors import UsageError, first_line

VERSION = 1  # to be raised where another trial, or a change of the engine, could come to another answer
TOLERANCE = 1e-2  # nats of one token: rounding takes up to a tenth of it, and what is read wrongly is off by nats
RANK, U, UPDATE = 2, 4, 0.5  # of the lanes: the update is about as large as the top of each weight
SENSITIVE = 10 * TOLERANCE  # by how much the first token must matter: else nothing would show
NEW_TOKENS, SHORT = 6, 24
ROWS = 5  # in a rollout at once, so that some wait and join later
ONE_BATCH = 10**9  # tokens

Way = TypeVar("Way")
Leaves = Sequence[torch.Tensor] | None


class Unfit(Exception):
    """A family for which no layout is right; the text says what was seen."""


def layout_for(settings: PreTrainedConfig, attention: Attention) -> Layout:
    """The layout for models of a config. Raises Unfit where none is right, UsageError where no map can be adapted."""
    with _one_thread():
        return _layout_for(settings, attention)


def _layout_for(settings: PreTrainedConfig, attention: Attention) -> Layout:
    seen = ""
    for model in reduced_models(settings, attention):
        try:
            if isinstance(model, Exception):
                raise model
            trial = Trial(model, settings)
            trial.require_language_model()
        except (Unfit, UsageError):  # that its maps cannot be adapted
            raise
        except Exception as error:  # what a family raises where it cannot be built or run that small
            seen = seen or f"a pass over one text ends in {type(error).__name__}: {first_line(error)}"
            continue
        trees = trial.first_right([True, False], trial.training)
        reading = trial.first_right(list(Reading), trial.rollout)
        if trees is not None and reading is not None:
            return Layout(trees, reading, trial.lost_positions())
        seen = " and ".join(trial.seen)
        break
    raise Unfit(f"in a small model of type {settings.model_type} {seen}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside, PyTorch computes in one thread: for small products more take longer, many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Trial:
    """A small model with two lanes, and what is seen of it."""

    def __init__(self, model: PreTrainedModel, settings: PreTrainedConfig) -> None:
        """`settings` are those of the true model."""
        self.model, self.seen = model, list[str]()
        weights = {name: weight_of(module) for name, module in adapted_modules(model).items()}
        specs = [LaneSpec(U, projection_seed=lane) for lane in range(2)]
        self.adapters = TinyLora(model, compute_basis(weights, RANK, Solver.fast), specs)
        for number in range(2):
            v = self.adapters.lane(number).v
            v.data.copy_(UPDATE * torch.randn(v.shape, generator=torch.Generator().manual_seed(number)))
        head: nn.Module = model.get_output_embeddings()
        assert isinstance(head.weight, torch.Tensor)
        self.vocabulary = len(head.weight)
        room = (context_length(settings) or math.inf) - self.lost_positions() - NEW_TOKENS
        self.length = int(min(max(row_width(settings, Layout()), SHORT), room))
        self._plain: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}

    def first_right(self, ways: Sequence[Way], error_of: Callable[[Way], float]) -> Way | None:
        """The first way that is off by no more than the tolerance; None, and the last one is noted, where none is."""
        said = ""
        for way in ways:
            try:
                error = error_of(way)
            except Exception as exception:  # what a family raises where it cannot do something
                said = f"{error_of.__name__} ends in {type(exception).__name__}: {first_line(exception)}"
                continue
            if error <= TOLERANCE:
                return way
            said = f"{error_of.__name__} is off by {error:.2g} nats"
        self.seen.append(said)
        return None

    def require_language_model(self) -> None:
        """Raise Unfit where a plain pass does not give tokens that depend on those before them, and only on them."""
        tokens = self._text(min(SHORT, self.length), 0)
        whole, half = self.plain(0, tokens), len(tokens) // 2
        ahead = _largest(whole[: half - 1] - self.plain(0, tokens[:half]))
        if ahead > TOLERANCE:
            raise Unfit(f"a token's log-probability changes by {ahead:.2g} nats with the tokens behind it")
        other = [tokens[0] + 1, *tokens[1:]]
        if _largest(whole[1:] - self.plain(0, other)[1:]) < SENSITIVE:
            raise Unfit("a token's log-probability does not depend on the tokens before it")

    def lost_positions(self) -> int:
        """How many positions of the context are not for tokens: some families begin behind that of the padding."""
        inputs, context = self.model.get_input_embeddings(), context_length(self.model.config)
        tables = [m for m in self.model.modules() if isinstance(m, nn.Embedding) and m is not inputs]
        taken = [int(m.padding_idx) + 1 for m in tables if m.padding_idx is not None and m.num_embeddings == context]
        return max(taken, default=0)

    @torch.no_grad()
    def training(self, trees: bool) -> float:
        """By how much the log-probabilities of completions in rows differ from plain passes, in nats."""
        prompts = [self._text(3, 1), self._text(4, 2)]
        long = max(self.length - 3 - 2 * 4, 4)
        short = [[low, *self._text(3, 3)] for low in (self._token(1), self._token(2))]
        of_first = [[self._token(0), *self._text(long - 1, 4)], *short]
        of_second = [[self._token(0), *self._text(n, n)] for n in (3, 4, 5)]
        completions = Completions(prompts, torch.tensor([0, 1]), [*of_first, *of_second])
        self._require_gradient(completions, trees)
        return max(
            self._difference(number // 3, prompts[number // 3], completions.tokens[number], logps)
            for number, logps in self._logps(completions, range(2), trees).items()
        )

    def _require_gradient(self, completions: Completions, trees: bool) -> None:
        """Raise ArithmeticError where the gradient of the second prompt's completions is not finite, or nothing."""
        leaves = self.adapters.form().leaves
        with torch.enable_grad():
            logps = torch.cat(list(self._logps(completions, [1], trees, leaves).values()))
            (gradient,) = torch.autograd.grad(logps.sum(), leaves)
        if not bool(gradient.isfinite().all()) or not bool(gradient[1].any()):
            raise ArithmeticError("the gradient is not finite, or 0")

    def _logps(
        self,
        completions: Completions,
        prompts: Sequence[int],
        trees: bool,
        leaves: Sequence[torch.Tensor] | None = None,
    ) -> dict[int, torch.Tensor]:
        """Of each completion of some prompts, by number, the log-probabilities of its tokens."""
        found: dict[int, torch.Tensor] = {}
        rows = lay_out(completions, prompts, self.length if trees else 0)
        for batch in micro_batches(rows, 2 * self.length):  # the longest row with another one, then the short ones
            with self.adapters.rows(completions.lane_of_prompt[[row.prompt for row in batch]], leaves):
                logps = completion_logps(self.model, completions, batch)
            found |= {n: own[: len(completions.tokens[n])] for n, own in zip(numbers(batch), logps, strict=True)}
        return found

    def rollout(self, reading: Reading) -> float:
        """By how much the log-probabilities of sampled completions differ from plain passes, in nats."""
        prompts, lanes, found = self._sampled(Layout(reading=reading))
        return max(
            self._difference(int(lanes[row // 2]), prompts[row // 2], found.completion(row), found.logp[row])
            for row in range(len(found.lengths))
        )

    @torch.no_grad()
    def prob_diff(self, layout: Layout) -> float:
        """Mean difference of a sampled token's probability between sampler and trainer, as runs record it."""
        prompts, lanes, found = self._sampled(layout)
        completions = found.completions(prompts, lanes)
        logps = self._logps(completions, range(len(prompts)), layout.trees)
        differences = [(own.exp() - found.logp[row][: len(own)].exp()).abs() for row, own in logps.items()]
        return float(torch.cat(differences).mean())

    @torch.no_grad()
    def _sampled(self, layout: Layout) -> tuple[list[list[int]], torch.Tensor, Rollout]:
        """Prompts of several lengths, their lanes (N,), and two sampled completions of each."""
        step = decode_step_of(self.model, self.adapters, layout)
        limits, ends = Limits(ROWS, ONE_BATCH, self.length), frozenset(range(0, self.vocabulary, 4))
        engine = Engine("", self.model, self.adapters, limits, layout, 0, None, self._token(0), ends, step)
        prompts = [self._text(min(length, self.length), length) for length in (max(self.length // 2, 8), 5, 7, 5)]
        lanes = torch.tensor([0, 1, 0, 1])
        noise = torch.rand(8, NEW_TOKENS, generator=torch.Generator().manual_seed(0))
        return prompts, lanes, roll_out(engine, Request(prompts, lanes, noise, Sampling(NEW_TOKENS), samples=2))

    @torch.inference_mode()
    def plain(self, lane: int, tokens: Sequence[int]) -> torch.Tensor:
        """Log-probabilities of all tokens of a text but the first, (T - 1,), from a plain pass of one lane."""
        key = (lane, tuple(tokens))
        if key not in self._plain:
            inputs = {"input_ids": torch.tensor([list(tokens)]), "use_cache": False}
            with self.adapters.base():
                logits = functional_call(self.model, self.adapters.merged_weights(lane), (), inputs).logits[0]
            choice = logits.float().log_softmax(-1)[:-1]
            self._plain[key] = choice.gather(1, inputs["input_ids"][0, 1:, None])[:, 0]  # type: ignore[index]
        return self._plain[key]

    def _difference(self, lane: int, prompt: Sequence[int], completion: Sequence[int], found: torch.Tensor) -> float:
        expected = self.plain(lane, [*prompt, *completion])[len(prompt) - 1 :]
        return _largest(found[: len(completion)] - expected)

    def _text(self, length: int, seed: int) -> list[int]:
        """Tokens from the middle of the vocabulary, and that of the padding, which some families do not count."""
        low, high = self._token(0), self.vocabulary - self.vocabulary // 4
        tokens = torch.randint(low, high, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
        padding = getattr(text_config(self.model.config), "pad_token_id", None)
        if isinstance(padding, int) and 0 <= padding < self.vocabulary and length > 2:
            tokens[1] = padding
        return tokens

    def _token(self, number: int) -> int:
        return self.vocabulary // 4 + number


def _largest(difference: torch.Tensor) -> float:
    """The largest size of a difference; infinite where it is no number."""
    return float(difference.abs().nan_to_num(nan=math.inf).max())
