"""What SFT learns from: the task's demonstrations, or right answers of the untrained model (rejection sampling).

With task.demonstrations=sampled the untrained model gives `algorithm.attempts` completions of each problem of a step,
at rollout.temperature; the first that is strictly right and has ended demonstrates it. A problem without one is left
out. The noise is a function of the lane's seed and step, so lanes of one seed share their samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tinylora.adapters.noise import torch_stream
from tinylora.answers.rewards import Outcome
from tinylora.engine.rollout import roll_out
from tinylora.engine.rows import Completions
from tinylora.engine.sampling import Request, Sampling
from tinylora.settings.config import Demonstrations, SftConfig
from tinylora.train.pack import LaneRun, Pack


@dataclass(frozen=True)
class Demonstrated:
    """What one lane learns from in one step."""

    prompts: list[list[int]]
    answers: list[list[int]]
    """One for each prompt, with its end token."""
    sampled: int = 0
    """Tokens that were sampled for it."""


def joined(found: Sequence[Demonstrated], lanes: Sequence[LaneRun]) -> Completions:
    """The demonstrations of some lanes, lane by lane."""
    counts = torch.tensor([len(own.prompts) for own in found])
    lane_of_prompt = torch.tensor([lane.index for lane in lanes]).repeat_interleave(counts)
    prompts = [prompt for own in found for prompt in own.prompts]
    return Completions(prompts, lane_of_prompt, [answer for own in found for answer in own.answers])


def demonstrations(pack: Pack, lanes: Sequence[LaneRun]) -> list[Demonstrated]:
    """What each lane learns from in its next step, in its own manner."""
    draws = [(lane.config.seed, lane.step + 1) for lane in lanes if _samples(lane)]
    sampled = _sample(pack, list(dict.fromkeys(draws))) if draws else {}
    return [sampled[lane.config.seed, lane.step + 1] if _samples(lane) else _of_task(pack, lane) for lane in lanes]


def _samples(lane: LaneRun) -> bool:
    return lane.config.task.demonstrations is Demonstrations.sampled


def _of_task(pack: Pack, lane: LaneRun) -> Demonstrated:
    problems = pack.task.batch(lane.config.seed, lane.step + 1, pack.config.algorithm.prompts)
    texts = [pack.task.demonstration(problem, lane.config.task.demonstrations) for problem in problems]
    prompts = pack.encode_prompts(problems)
    answers = [
        tokens[: pack.engine.room_after(prompt, len(tokens))]
        for prompt, tokens in zip(prompts, pack.encode_completions(texts), strict=True)
    ]
    return Demonstrated(prompts, answers)


def _sample(pack: Pack, draws: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Demonstrated]:
    """Right answers of the untrained model to the problems of some seeds and steps."""
    settings, chosen = pack.config.algorithm, pack.config.rollout
    assert isinstance(settings, SftConfig)
    problems = [p for seed, step in draws for p in pack.task.batch(seed, step, settings.prompts)]
    prompts, shape = pack.encode_prompts(problems), (settings.prompts * settings.attempts, chosen.max_new_tokens)
    streams = [torch_stream(seed, "demonstrations", step) for seed, step in draws]
    noise = torch.cat([torch.rand(shape, generator=stream) for stream in streams])
    sampling = Sampling.of(chosen)
    nobody = torch.zeros(len(prompts), dtype=torch.long)
    rollout = roll_out(pack.engine, Request(prompts, nobody, noise, sampling, settings.attempts, untrained=True))
    completions = [rollout.completion(row) for row in range(len(rollout.lengths))]
    scores = pack.score([problem for problem in problems for _ in range(settings.attempts)], completions)
    right = [
        score.strict is Outcome.correct and not truncated
        for score, truncated in zip(scores, rollout.truncated.tolist(), strict=True)
    ]
    found = {}
    for number, draw in enumerate(draws):
        own = range(number * settings.prompts, (number + 1) * settings.prompts)
        firsts = {place: _first(right, place * settings.attempts, settings.attempts) for place in own}
        kept = {place: row for place, row in firsts.items() if row is not None}
        rows = slice(own.start * settings.attempts, own.stop * settings.attempts)
        tokens = int(rollout.lengths[rows].sum())
        found[draw] = Demonstrated([prompts[p] for p in kept], [completions[row] for row in kept.values()], tokens)
    return found


def _first(right: Sequence[bool], start: int, count: int) -> int | None:
    """The first right row among some; None where there is none."""
    return next((row for row in range(start, start + count) if right[row]), None)
