"""GRPO over lanes (paper section 4): one step of every lane, in one rollout and one backward pass.

For each lane: draw P problems, sample G completions of each, reward exact matches, normalise the rewards within each
group to advantages, and take one Adam step on

    - 1/N sum over tokens of  min(p_train / p_sampler, cap) * advantage * log p_train   (+ coefficient * KL to v = 0)

with N the lane's completion tokens of the whole step. Lanes share nothing but the batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import torch

from tinylora.advantages import group_advantages, zero_variance_share
from tinylora.batches import Rows, completion_logps, completion_mask, micro_batches
from tinylora.config import GrpoConfig
from tinylora.losses import grpo_row_loss, importance_weight, kl_row_penalty
from tinylora.pack import LaneRun, Metrics, Pack, apply_gradient
from tinylora.rewards import Outcome
from tinylora.rollout import Rollout, Sampling, roll_out
from tinylora.seeds import torch_stream


def grpo_step(pack: Pack, lanes: Sequence[LaneRun]) -> list[Metrics]:
    """Train every lane by one step; returns the metrics of each."""
    settings, started = _settings(pack), time.perf_counter()
    problems = [p for lane in lanes for p in pack.task.batch(lane.config.seed, lane.step + 1, settings.prompts)]
    prompts = [pack.encode_prompt(problem) for problem in problems]
    lane_of_prompt = torch.tensor([lane.index for lane in lanes]).repeat_interleave(settings.prompts)
    rollout = _sample(pack, lanes, prompts, lane_of_prompt)
    sampled = time.perf_counter()

    completions = [rollout.completion(row) for row in range(len(rollout.lengths))]
    scores = [
        pack.task.score(problems[row // settings.samples], pack.decode(tokens))
        for row, tokens in enumerate(completions)
    ]
    rewards = torch.tensor([score.reward for score in scores]).view(len(lanes), settings.prompts, settings.samples)
    advantages = torch.cat([group_advantages(lane_rewards) for lane_rewards in rewards]).flatten()  # (B,)

    repeated = [prompts[row // settings.samples] for row in range(len(completions))]
    rows = Rows(repeated, completions, lane_of_prompt.repeat_interleave(settings.samples))
    sums = accumulate(pack, rows, rollout.logp, advantages)
    metrics = []
    for place, lane in enumerate(lanes):
        lane_metrics = apply_gradient(pack, lane, sums["train/loss"][lane.index].item())
        lane_metrics |= {name: values[lane.index].item() for name, values in sums.items() if name != "train/loss"}
        own = slice(place * rewards[0].numel(), (place + 1) * rewards[0].numel())
        lane_metrics |= _describe(rewards[place], [score.strict for score in scores[own]], rollout, own)
        metrics.append(lane_metrics)
    ended = time.perf_counter()
    times = {"time/rollout_s": sampled - started, "time/train_s": ended - sampled, "time/step_s": ended - started}
    return [lane_metrics | times for lane_metrics in metrics]


def accumulate(pack: Pack, rows: Rows, logp_sampler: torch.Tensor, advantages: torch.Tensor) -> dict[str, torch.Tensor]:
    """Add the gradient of every lane's loss to its v, in micro-batches; returns per-lane sums (L,) by metric.

    `logp_sampler` is (B, T), `advantages` (B,). The split into micro-batches changes nothing but rounding.
    """
    settings, device = _settings(pack), pack.model.device
    temperature = pack.config.rollout.temperature
    lane_count = len(pack.adapter.lanes)
    share = 1.0 / rows.tokens_per_lane(lane_count).clamp(min=1).float()  # (L,): of one token in its lane's loss
    names = ("train/loss", "train/prob_diff", "train/sampler_kl", "train/importance_capped", "train/kl")
    sums = {name: torch.zeros(lane_count) for name in names}
    for batch in micro_batches(rows, pack.config.pack.micro_batch_tokens):
        mask = completion_mask(rows, batch, device)
        sampler = logp_sampler[batch, : mask.shape[1]].to(device)
        weights = share[rows.lane_of_row[batch]].to(device)  # (b,)
        logp = completion_logps(pack.model, pack.adapter, rows, batch, pack.pad_token, temperature)
        logp = torch.where(mask > 0, logp, 0.0)
        loss = grpo_row_loss(logp, sampler, advantages[batch].to(device), mask, settings.importance_cap)
        values = {}
        if settings.kl_coefficient > 0:
            with torch.no_grad():
                base = completion_logps(pack.model, None, rows, batch, pack.pad_token, temperature)
            penalty = kl_row_penalty(logp, torch.where(mask > 0, base, 0.0), mask)
            loss = loss + settings.kl_coefficient * penalty
            values["train/kl"] = penalty.detach()
        (loss * weights).sum().backward()
        values["train/loss"] = loss.detach()
        values |= _mismatch(logp.detach(), sampler, mask, settings.importance_cap)
        for name, value in values.items():
            sums[name].index_add_(0, rows.lane_of_row[batch], (value * weights).float().cpu())
    if settings.kl_coefficient == 0:
        del sums["train/kl"]
    return sums


def _settings(pack: Pack) -> GrpoConfig:
    assert isinstance(pack.config.algorithm, GrpoConfig)
    return pack.config.algorithm


def _sample(pack: Pack, lanes: Sequence[LaneRun], prompts: list[list[int]], lane_of_prompt: torch.Tensor) -> Rollout:
    settings, chosen = _settings(pack), pack.config.rollout
    shape = (settings.prompts * settings.samples, chosen.max_new_tokens)
    streams = [torch_stream(lane.config.seed, "sampling", lane.step + 1) for lane in lanes]
    noise = torch.cat([torch.rand(shape, generator=stream) for stream in streams])
    sampling = Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p)
    return roll_out(
        pack.model, pack.adapter, prompts, lane_of_prompt, noise, sampling, settings.samples, pack.end_tokens,
        pack.pad_token,
    )  # fmt: skip


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
