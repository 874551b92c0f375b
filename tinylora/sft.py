"""SFT over lanes: next-token loss on one demonstration per problem, one Adam step per batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from tinylora.batches import Rows, completion_logps, completion_mask, micro_batches
from tinylora.losses import sft_row_loss
from tinylora.pack import LaneRun, Metrics, Pack, apply_gradient


def sft_step(pack: Pack, lanes: Sequence[LaneRun]) -> list[Metrics]:
    """Train every lane by one step on demonstrations of its own manner; returns the metrics of each."""
    started = time.perf_counter()
    count = pack.config.algorithm.prompts
    prompts, completions = [], []
    for lane in lanes:
        for problem in pack.task.batch(lane.config.seed, lane.step + 1, count):
            prompts.append(pack.encode_prompt(problem))
            text = pack.task.demonstration(problem, lane.config.task.demonstrations)
            completions.append(pack.encode_completion(text))
    rows = Rows(prompts, completions, torch.tensor([lane.index for lane in lanes]).repeat_interleave(count))
    losses = accumulate(pack, rows)
    metrics = []
    for place, lane in enumerate(lanes):
        own = completions[place * count : (place + 1) * count]
        lane_metrics = apply_gradient(pack, lane, losses[lane.index].item())
        lane_metrics["train/completion_tokens"] = sum(map(len, own)) / count
        metrics.append(lane_metrics)
    seconds = time.perf_counter() - started
    return [lane_metrics | {"time/train_s": seconds, "time/step_s": seconds} for lane_metrics in metrics]


def accumulate(pack: Pack, rows: Rows) -> torch.Tensor:
    """Add the gradient of every lane's mean loss per token to its v, in micro-batches; returns the losses (L,)."""
    lane_count = len(pack.adapter.lanes)
    share = 1.0 / rows.tokens_per_lane(lane_count).clamp(min=1).float()
    losses = torch.zeros(lane_count)
    for batch in micro_batches(rows, pack.config.pack.micro_batch_tokens):
        mask = completion_mask(rows, batch, pack.model.device)
        weights = share[rows.lane_of_row[batch]].to(pack.model.device)
        logp = completion_logps(pack.model, pack.adapter, rows, batch, pack.pad_token)
        loss = sft_row_loss(torch.where(mask > 0, logp, 0.0), mask) * weights
        loss.sum().backward()
        losses.index_add_(0, rows.lane_of_row[batch], loss.detach().float().cpu())
    return losses
