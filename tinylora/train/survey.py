"""What a model makes of problems before any training: how often it is right, and on how many only now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from tinylora.records.progress import Progress
from tinylora.settings.errors import FailureError
from tinylora.tasks.problem import Problem, Suite
from tinylora.train.evaluate import evaluate_suite
from tinylora.train.pack import Pack


@dataclass(frozen=True)
class Tried:
    """The answers to some problems, `samples` of each and a greedy one. Of each problem a number, in order."""

    problems: list[str]
    """Their ids."""
    samples: int
    strict: list[int]
    """Samples that earn the reward."""
    flexible: list[int]
    greedy: list[int]
    """1 where the greedy answer earns it."""
    tokens: int
    """Of all samples together."""
    truncated: int
    """Samples that had not ended at rollout.max_new_tokens."""
    seconds: float


def try_problems(pack: Pack, name: str, problems: Sequence[Problem], samples: int, progress: Progress) -> Tried:
    """Let the first lane answer some problems, which are said to be the set `name`.

    Raises FailureError where its probabilities are not finite.
    """
    started = time.perf_counter()
    suite = Suite(name, problems, samples)
    answers, measured = evaluate_suite(pack, [0], suite, progress)
    if 0 not in measured or pack.lanes[0].failure is not None:
        rule = f"a model gives probabilities: {pack.lanes[0].failure}"
        raise FailureError(f"model {pack.config.model.identity}", rule, "give another model, or model.dtype=fp32")
    (line,) = measured[0].items
    places = range(len(answers.tokens))
    sampled = [answers.tokens[place] for place in places if place % answers.samples]
    return Tried(
        [problem.id for problem in problems],
        answers.samples - 1,
        line.sampled_strict.sum(axis=1).tolist(),
        line.sampled_flexible.sum(axis=1).tolist(),
        line.greedy_strict.astype(int).tolist(),
        len(list(chain.from_iterable(sampled))),
        sum(not tokens or tokens[-1] not in pack.form.end_tokens for tokens in sampled),
        time.perf_counter() - started,
    )
