"""Random search over lanes, a control for GRPO: no gradient, the best of many random v on validation problems.

For each lane and step: draw v from a normal distribution around zero, with `lr` as its standard deviation, round it to
the lane's precision, and sample G completions of each of P validation problems. The problems are the same for every
candidate, and so is the noise of their completions (common random numbers): what differs between candidates is the
model. The mean reward decides. After each step the lane's v is its best candidate so far, the earliest of several that
are as good. The untrained model is no candidate.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from tinylora.adapters.noise import torch_stream
from tinylora.settings.algorithms import RandomSearchConfig
from tinylora.settings.config import RunConfig, Split
from tinylora.train.pack import LaneMetrics, LaneRun, Metrics, Pack
from tinylora.train.sampled import describe, sample
from tinylora.train.samples import Answered, due_rows, of_group


def random_search_step(pack: Pack, lanes: Sequence[LaneRun]) -> LaneMetrics:
    """Try one candidate on every lane, and keep it where it is the best; returns the metrics of each, by its index."""
    settings, started = pack.config.algorithm, time.perf_counter()
    assert isinstance(settings, RandomSearchConfig)

    # Problems: the first of the validation part, for every lane the same.
    problems = pack.task.held_out(Split.validation, settings.prompts) * len(lanes)
    prompts = pack.encode_prompts(problems)
    lane_of_prompt = torch.tensor([lane.index for lane in lanes]).repeat_interleave(settings.prompts)  # (N,)

    # The candidates take the place of the best v, which are put aside.
    best = [lane.adapter.unrounded.clone() for lane in lanes]
    for lane in lanes:
        noise = torch_stream(lane.config.seed, "rounding", lane.step + 1)
        lane.adapter.take(candidate(lane.config, lane.step + 1, lane.v.shape), noise)

    # Completions: G of each prompt, with the same noise at every step.
    streams = [torch_stream(lane.config.seed, "random search noise") for lane in lanes]
    rollout = sample(pack, prompts, lane_of_prompt, settings.samples, streams)
    completions = rollout.completions(prompts, lane_of_prompt)
    sampled = time.perf_counter()

    # Rewards: 1 for the right answer in the asked-for format, else 0; their mean says which v is kept.
    asked = [problem for problem in problems for _ in range(settings.samples)]
    judged = pack.judge(asked, completions.tokens, kept=due_rows(lanes, len(asked) // len(lanes)))
    scores, answered = [each.score for each in judged], Answered(asked, judged, rollout)
    rewards = torch.tensor([score.reward for score in scores]).view(len(lanes), settings.prompts, -1)  # (lanes, P, G)
    metrics: LaneMetrics = {}
    for place, lane in enumerate(lanes):
        own = slice(place * rewards[0].numel(), (place + 1) * rewards[0].numel())
        described = describe(rewards[place], scores[own], rollout, own)
        lane.tokens_sampled += int(rollout.lengths[own].sum())
        lane.samples = of_group(pack, lane, answered, own, settings.samples)
        healthy = bool(rollout.logp[own].isfinite().all())
        metrics[lane.index] = described | _keep(lane, described["train/reward"], best[place], healthy)
    times = {"time/rollout_s": sampled - started, "time/step_s": time.perf_counter() - started}
    return {index: lane_metrics | times for index, lane_metrics in metrics.items()}


def candidate(config: RunConfig, step: int, shape: torch.Size) -> torch.Tensor:
    """The v (of this shape, fp32) that a run tries at a step, the first of which is 1, before it is rounded.

    It is drawn in fp64: PyTorch then draws the same numbers on every processor.
    """
    stream = torch_stream(config.seed, "random search", step)
    return (config.learning_rate * torch.randn(shape, generator=stream, dtype=torch.float64)).float()


def _keep(lane: LaneRun, reward: float, best: torch.Tensor, healthy: bool) -> Metrics:
    """Keep a lane's candidate, which it holds, where its reward is the best; else take the best v back.

    A candidate that is not finite, or gives no finite probabilities (it is not `healthy`), ends the lane: what such a
    model says is noise.
    """
    if not healthy or not bool(torch.isfinite(lane.v).all()):
        stored = f"lr={lane.config.learning_rate:g}, stored as {lane.config.precision.value}"
        lane.failure = f"the candidate of step {lane.step + 1} gives no finite probabilities ({stored})"
    if lane.failure is None and (lane.best_reward is None or reward > lane.best_reward):
        lane.best_reward = reward
    else:
        lane.adapter.hold(best)
        lane.adapter.round()
    kept = {} if lane.best_reward is None else {"train/best_reward": lane.best_reward}
    v_norm = float(torch.linalg.vector_norm(lane.v.detach()))
    return kept | lane.tokens_so_far | {"train/v_norm": v_norm}
