"""GRPO over lanes (paper section 4): one step of every lane, in one rollout and one gradient.

For each lane: draw P problems, sample G completions of each, reward exact matches, normalise the rewards within each
group to advantages, and take one Adam step on

    - 1/tokens sum over tokens of ( min(p_train / p_sampler, cap) * advantage * log p_train - a * KL + b * entropy )

with `tokens` the lane's completion tokens of the whole step. The weight min(...) is a constant for the gradient. KL is
to the untrained model, entropy that of the policy's next token; both are left out by default. Lanes share nothing but
the batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from tinylora.adapters.noise import torch_stream
from tinylora.answers.rewards import Score
from tinylora.engine.gradients import backward
from tinylora.engine.rows import Completions, Row, completion_logps, completion_mask, logps_and_entropies, numbers
from tinylora.settings.choices import Reward
from tinylora.settings.config import GrpoConfig
from tinylora.train.losses import group_advantages, grpo_loss, importance_weight, kl_penalty, zero_variance_share
from tinylora.train.pack import LaneMetrics, LaneRun, Metrics, Pack, apply_gradient
from tinylora.train.sampled import describe, sample
from tinylora.train.samples import Answered, due_rows, of_group


def grpo_step(pack: Pack, lanes: Sequence[LaneRun]) -> LaneMetrics:
    """Train every lane by one step; returns the metrics of each, by its index."""
    settings, started = _settings(pack), time.perf_counter()

    # Prompts: P problems of each lane, lane by lane, from the lane's own stream.
    problems = [p for lane in lanes for p in pack.task.batch(lane.config.seed, lane.step + 1, settings.prompts)]
    prompts = pack.encode_prompts(problems)
    lane_of_prompt = torch.tensor([lane.index for lane in lanes]).repeat_interleave(settings.prompts)  # (N,)

    # Completions: G of each prompt, with their log-probabilities under the sampler.
    streams = [torch_stream(lane.config.seed, "sampling", lane.step + 1) for lane in lanes]
    rollout = sample(pack, prompts, lane_of_prompt, settings.samples, streams)
    completions = rollout.completions(prompts, lane_of_prompt)
    sampled = time.perf_counter()

    # Rewards: 1 for the right answer in the asked-for format, else 0 (or what a control rewards).
    asked = [problem for problem in problems for _ in range(settings.samples)]
    judged = pack.judge(asked, completions.tokens, kept=due_rows(lanes, len(asked) // len(lanes)))
    scores = [each.score for each in judged]
    rewards = _rewards(settings, lanes, scores)  # (lanes, P, G)
    answered = Answered(asked, judged, rollout, rewards.flatten().tolist())

    # Advantages: rewards relative to their group, the completions of the same prompt.
    advantages = torch.cat([group_advantages(of_lane) for of_lane in rewards]).flatten()  # (B,)

    # The gradient of every lane's v, then one Adam step of each lane, after which v is rounded to its precision.
    found = accumulate(pack, completions, rollout.logp, advantages)
    metrics = {}
    for place, lane in enumerate(lanes):
        own = slice(place * rewards[0].numel(), (place + 1) * rewards[0].numel())
        lane.tokens_sampled += int(rollout.lengths[own].sum())
        lane.samples = of_group(pack, lane, answered, own, settings.samples)
        stepped = _step(pack, lane, found, healthy=bool(rollout.logp[own].isfinite().all()))
        metrics[lane.index] = stepped | describe(rewards[place], scores[own], rollout, own)
        metrics[lane.index]["train/zero_variance"] = zero_variance_share(rewards[place])
    ended = time.perf_counter()
    times = {"time/rollout_s": sampled - started, "time/train_s": ended - sampled, "time/step_s": ended - started}
    return {index: lane_metrics | times for index, lane_metrics in metrics.items()}


def _rewards(settings: GrpoConfig, lanes: Sequence[LaneRun], scores: Sequence[Score]) -> torch.Tensor:
    """What the completions of these lanes earn, (lanes, P, G), by `algorithm.reward`."""
    in_form = settings.reward is Reward.form
    found = torch.tensor([float(score.in_form) if in_form else score.reward for score in scores]).view(len(lanes), -1)
    if settings.reward is Reward.shuffled:
        streams = [torch_stream(lane.config.seed, "shuffled rewards", lane.step + 1) for lane in lanes]
        found = torch.stack(
            [own[torch.randperm(len(own), generator=dealt)] for own, dealt in zip(found, streams, strict=True)]
        )
    return found.view(len(lanes), settings.prompts, settings.samples)


def accumulate(
    pack: Pack, completions: Completions, logp_sampler: torch.Tensor, advantages: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Give every lane's v the gradient of its loss; returns metrics of the lanes, (L,) by name.

    `logp_sampler` is (B, T), `advantages` (B,). A group of equal rewards has no part in the gradient, and is left out
    (unless there is a KL or an entropy term). So means over tokens are over those that are trained on, the `tokens`,
    and NaN where there are none; the loss alone is over all tokens.
    """
    settings, lanes = _settings(pack), len(pack.lanes)
    share = 1.0 / completions.tokens_per_lane(lanes).clamp(min=1)  # (L,): of one token in its lane's loss
    lane_of_completion = completions.lane_of_prompt.repeat_interleave(completions.samples)

    def batch_loss(batch: Sequence[Row]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        which = numbers(batch)
        loss, values = _loss(pack, completions, batch, logp_sampler[which], advantages[which])
        return loss * share[lane_of_completion[which]].to(loss.device), values

    all_count = settings.kl_coefficient > 0 or settings.entropy_coefficient > 0
    taught = advantages.view(-1, completions.samples).ne(0).any(1) | all_count  # (N,)
    found = backward(pack.engine, completions, taught.nonzero()[:, 0].tolist(), batch_loss)
    sums = {name: torch.zeros(lanes).index_add(0, lane_of_completion, values) for name, values in found.items()}
    losses, tokens = (sums.pop(name, torch.zeros(lanes)) for name in ("loss", "tokens"))
    return {"train/loss": losses, "tokens": tokens} | {name: values / tokens for name, values in sums.items()}


def _loss(
    pack: Pack, completions: Completions, batch: Sequence[Row], sampler: torch.Tensor, advantages: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch's completions (b,), summed over their tokens, and other numbers of them (b,) by name.

    `sampler` holds the log-probabilities that they were sampled with (b, T), `advantages` is (b,).
    """
    settings, model, temperature = _settings(pack), pack.engine.model, pack.config.rollout.temperature
    mask = completion_mask(completions, batch, model.device)
    sampler = sampler[:, : mask.shape[1]].to(model.device)
    if settings.entropy_coefficient > 0:
        logp, entropies = logps_and_entropies(model, completions, batch, temperature)
    else:
        logp, entropies = completion_logps(model, completions, batch, temperature), None
    loss = grpo_loss(logp, sampler, advantages.to(model.device), mask, settings.importance_cap)
    values = _mismatch(logp.detach(), sampler, mask, settings.importance_cap) | {"tokens": mask.sum(1)}
    if entropies is not None:
        loss = loss - settings.entropy_coefficient * entropies.sum(1)
        values["train/entropy"] = entropies.detach().sum(1)
    if settings.kl_coefficient > 0:
        with torch.no_grad(), pack.engine.adapters.base() as parameters:
            base = completion_logps(model, completions, batch, temperature, parameters)
        penalty = kl_penalty(logp, base, mask)
        loss = loss + settings.kl_coefficient * penalty
        values["train/kl"] = penalty.detach()
    return loss, values


def _settings(pack: Pack) -> GrpoConfig:
    assert isinstance(pack.config.algorithm, GrpoConfig)
    return pack.config.algorithm


def _step(pack: Pack, lane: LaneRun, found: dict[str, torch.Tensor], healthy: bool) -> Metrics:
    """The optimizer step of one lane, and its part of what `accumulate` has found.

    A lane whose sampler gives no finite log-probabilities is not `healthy`: what it says is noise and earns 0, so its
    loss is 0 and would hide the failure.
    """
    metrics: Metrics = {name: values[lane.index].item() for name, values in found.items()}
    loss = metrics.pop("train/loss") if healthy else math.nan
    lane.tokens_trained += int(metrics.pop("tokens"))
    metrics = {name: value for name, value in metrics.items() if not math.isnan(value)}
    return metrics | lane.tokens_so_far | apply_gradient(pack.engine.adapters, lane, loss)


def _mismatch(logp: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor, cap: float) -> dict[str, torch.Tensor]:
    """Sums over each completion's tokens, (b,), of how trainer and sampler differ."""
    difference = (logp.exp() - sampler.exp()).abs()
    capped = (importance_weight(logp, sampler, cap) >= cap).float()
    return {
        "train/prob_diff": (difference * mask).sum(1),
        "train/sampler_kl": ((sampler - logp) * mask).sum(1),
        "train/importance_capped": (capped * mask).sum(1),
    }
