"""GRPO over lanes (paper section 4): one step of every lane, in one rollout and one backward pass.

For each lane: draw P problems, sample G completions of each, reward exact matches, normalise the rewards within each
group to advantages, and take one Adam step on

    - 1/N sum over tokens of  min(p_train / p_sampler, cap) * advantage * log p_train   (+ coefficient * KL to v = 0)

with N the lane's completion tokens of the whole step. Lanes share nothing but the batch.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

import torch

from tinylora.answers.rewards import Outcome
from tinylora.engine.gradients import backward
from tinylora.engine.rollout import Request, Rollout, Sampling, roll_out
from tinylora.engine.rows import Completions, Row, completion_logps, completion_mask, numbers
from tinylora.settings.config import GrpoConfig
from tinylora.settings.seeds import torch_stream
from tinylora.train.advantages import group_advantages, zero_variance_share
from tinylora.train.losses import grpo_row_loss, importance_weight, kl_row_penalty
from tinylora.train.pack import LaneRun, Metrics, Pack, apply_gradient


def grpo_step(pack: Pack, lanes: Sequence[LaneRun]) -> list[Metrics]:
    """Train every lane by one step; returns the metrics of each."""
    settings, started = _settings(pack), time.perf_counter()
    problems = [p for lane in lanes for p in pack.task.batch(lane.config.seed, lane.step + 1, settings.prompts)]
    prompts = pack.encode_prompts(problems)
    lane_of_prompt = torch.tensor([lane.index for lane in lanes]).repeat_interleave(settings.prompts)
    rollout = _sample(pack, lanes, prompts, lane_of_prompt)
    sampled = time.perf_counter()

    completions = rollout.completions(prompts, lane_of_prompt)
    asked = [problem for problem in problems for _ in range(settings.samples)]
    scores = pack.score(asked, completions.tokens)
    rewards = torch.tensor([score.reward for score in scores]).view(len(lanes), settings.prompts, settings.samples)
    advantages = torch.cat([group_advantages(lane_rewards) for lane_rewards in rewards]).flatten()  # (B,)

    found = accumulate(pack, completions, rollout.logp, advantages)
    metrics = []
    for place, lane in enumerate(lanes):
        own = slice(place * rewards[0].numel(), (place + 1) * rewards[0].numel())
        lane_metrics = {name: values[lane.index].item() for name, values in found.items()}
        healthy = bool(rollout.logp[own].isfinite().all())  # else its rewards are all 0, and nothing else would tell
        loss = lane_metrics.pop("train/loss") if healthy else math.nan
        lane_metrics = {name: value for name, value in lane_metrics.items() if not math.isnan(value)}
        lane_metrics |= apply_gradient(pack, lane, loss)
        lane_metrics |= _describe(rewards[place], [score.strict for score in scores[own]], rollout, own)
        metrics.append(lane_metrics)
    ended = time.perf_counter()
    times = {"time/rollout_s": sampled - started, "time/train_s": ended - sampled, "time/step_s": ended - started}
    return [lane_metrics | times for lane_metrics in metrics]


def accumulate(
    pack: Pack, completions: Completions, logp_sampler: torch.Tensor, advantages: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Give every lane's v the gradient of its loss; returns metrics of the lanes, (L,) by name.

    `logp_sampler` is (B, T), `advantages` (B,). A group of equal rewards has no part in the gradient, and is left out
    (unless there is a KL term): so means over tokens are over those that are trained on, and NaN where there are none.
    """
    settings, lanes = _settings(pack), len(pack.adapter.lanes)
    share = 1.0 / completions.tokens_per_lane(lanes).clamp(min=1)  # (L,): of one token in its lane's loss
    lane_of_completion = completions.lane_of_prompt.repeat_interleave(completions.samples)

    def row_loss(batch: Sequence[Row]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        which, device = numbers(batch), pack.model.device
        mask = completion_mask(completions, batch, device)
        sampler = logp_sampler[which, : mask.shape[1]].to(device)
        temperature = pack.config.rollout.temperature
        logp = completion_logps(pack.model, completions, batch, temperature)
        loss = grpo_row_loss(logp, sampler, advantages[which].to(device), mask, settings.importance_cap)
        values = _mismatch(logp.detach(), sampler, mask, settings.importance_cap) | {"tokens": mask.sum(1)}
        if settings.kl_coefficient > 0:
            with torch.no_grad(), pack.adapter.base() as parameters:
                base = completion_logps(pack.model, completions, batch, temperature, parameters)
            penalty = kl_row_penalty(logp, base, mask)
            loss = loss + settings.kl_coefficient * penalty
            values["train/kl"] = penalty.detach()
        return loss * share[lane_of_completion[which]].to(device), values

    taught = advantages.view(-1, completions.samples).ne(0).any(1) | (settings.kl_coefficient > 0)  # (N,)
    found = backward(pack, completions, taught.nonzero()[:, 0].tolist(), row_loss)
    sums = {name: torch.zeros(lanes).index_add(0, lane_of_completion, values) for name, values in found.items()}
    losses, tokens = (sums.pop(name, torch.zeros(lanes)) for name in ("loss", "tokens"))
    return {"train/loss": losses} | {name: values / tokens for name, values in sums.items()}


def _settings(pack: Pack) -> GrpoConfig:
    assert isinstance(pack.config.algorithm, GrpoConfig)
    return pack.config.algorithm


def _sample(pack: Pack, lanes: Sequence[LaneRun], prompts: list[list[int]], lane_of_prompt: torch.Tensor) -> Rollout:
    settings, chosen = _settings(pack), pack.config.rollout
    shape = (settings.prompts * settings.samples, chosen.max_new_tokens)
    streams = [torch_stream(lane.config.seed, "sampling", lane.step + 1) for lane in lanes]
    noise = torch.cat([torch.rand(shape, generator=stream) for stream in streams])
    sampling = Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p)
    return roll_out(pack, Request(prompts, lane_of_prompt, noise, sampling, settings.samples))


def _mismatch(logp: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor, cap: float) -> dict[str, torch.Tensor]:
    """Sums over each row's tokens, (b,), of how trainer and sampler differ."""
    difference = (logp.exp() - sampler.exp()).abs()
    capped = (importance_weight(logp, sampler, cap) >= cap).float()
    return {
        "train/prob_diff": (difference * mask).sum(1),
        "train/sampler_kl": ((sampler - logp) * mask).sum(1),
        "train/importance_capped": (capped * mask).sum(1),
    }


def _describe(rewards: torch.Tensor, outcomes: list[Outcome], rollout: Rollout, own: slice) -> Metrics:
    counts = Counter(outcomes)
    shares = {f"train/outcome/{o.name}": counts[o] / len(outcomes) for o in Outcome}
    return shares | {
        "train/reward": float(rewards.mean()),
        "train/zero_variance": zero_variance_share(rewards),
        "train/completion_tokens": float(rollout.lengths[own].float().mean()),
        "train/truncated": float(rollout.truncated[own].float().mean()),
    }
