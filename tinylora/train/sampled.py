"""The completions of a step that are rewarded: how they are sampled, and what one lane's are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from tinylora.answers.rewards import Outcome, Score
from tinylora.engine.rollout import roll_out
from tinylora.engine.sampling import Request, Rollout, Sampling
from tinylora.train.pack import Metrics, Pack


def sample(
    pack: Pack,
    prompts: Sequence[Sequence[int]],
    lane_of_prompt: torch.Tensor,
    samples: int,
    streams: Sequence[torch.Generator],
) -> Rollout:
    """`samples` completions of each prompt of each lane.

    The prompts stand lane by lane, equally many of each; `lane_of_prompt` (N,) says whose each is. `streams` has the
    noise of each lane.
    """
    shape = (len(prompts) // len(streams) * samples, pack.config.rollout.max_new_tokens)
    noise = torch.cat([torch.rand(shape, generator=stream) for stream in streams])
    return roll_out(pack.engine, Request(prompts, lane_of_prompt, noise, Sampling.of(pack.config.rollout), samples))


def describe(rewards: torch.Tensor, scores: Sequence[Score], rollout: Rollout, own: slice) -> Metrics:
    """What one lane's completions were like; its rewards are (P, G), its completions `own` of the rollout's."""
    counts = Counter(score.strict for score in scores)
    shares = {f"train/outcome/{o.name}": counts[o] / len(scores) for o in Outcome}
    return shares | {
        "train/reward": float(rewards.mean()),
        "train/flexible": sum(score.flexible is Outcome.correct for score in scores) / len(scores),
        "train/token_entropy": -float(rollout.logp[own].sum() / rollout.lengths[own].sum()),
        "train/completion_tokens": float(rollout.lengths[own].float().mean()),
        "train/truncated": float(rollout.truncated[own].float().mean()),
    }
