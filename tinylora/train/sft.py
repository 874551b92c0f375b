"""SFT over lanes: next-token loss on one demonstration per problem, one Adam step per batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from tinylora.engine.gradients import backward
from tinylora.engine.rows import Completions, Row, completion_logps, completion_mask, numbers
from tinylora.train.demonstrations import Demonstrated, demonstrations, joined
from tinylora.train.losses import sft_loss
from tinylora.train.pack import LaneMetrics, LaneRun, Metrics, Pack, apply_gradient


def sft_step(pack: Pack, lanes: Sequence[LaneRun]) -> LaneMetrics:
    """Train every lane by one step on demonstrations of its own manner; returns the metrics of each, by its index."""
    started = time.perf_counter()
    found = demonstrations(pack, lanes)
    sampled = time.perf_counter()
    losses = accumulate(pack, joined(found, lanes))
    metrics: LaneMetrics = {}
    for lane, own in zip(lanes, found, strict=True):
        described = _describe(own, pack.config.algorithm.prompts)
        lane.tokens_sampled += own.sampled
        lane.tokens_trained += sum(map(len, own.answers))
        stepped = apply_gradient(pack.engine.adapters, lane, losses[lane.index].item())
        metrics[lane.index] = stepped | described | lane.tokens_so_far
    ended = time.perf_counter()
    times = {"time/train_s": ended - sampled, "time/step_s": ended - started}
    if any(own.sampled for own in found):
        times["time/rollout_s"] = sampled - started
    return {index: lane_metrics | times for index, lane_metrics in metrics.items()}


def _describe(own: Demonstrated, problems: int) -> Metrics:
    """The share of a step's problems that are demonstrated, and the mean length of these demonstrations."""
    if not own.answers:
        return {"train/demonstrated": 0.0}
    lengths = [len(answer) for answer in own.answers]
    return {"train/demonstrated": len(lengths) / problems, "train/completion_tokens": sum(lengths) / len(lengths)}


def accumulate(pack: Pack, completions: Completions) -> torch.Tensor:
    """Give every lane's v the gradient of its mean loss per token; returns the losses (L,), 0 where it has no token."""
    lanes = len(pack.lanes)
    share = 1.0 / completions.tokens_per_lane(lanes).clamp(min=1)  # (L,): of one token in its lane's loss

    def batch_loss(batch: Sequence[Row]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mask = completion_mask(completions, batch, pack.engine.model.device)
        logp = completion_logps(pack.engine.model, completions, batch)
        weights = share[completions.lane_of_prompt[numbers(batch)]]  # one completion of each prompt
        return sft_loss(logp, mask) * weights.to(pack.engine.model.device), {}

    found = backward(pack.engine, completions, range(len(completions.prompts)), batch_loss)
    losses = found.get("loss", torch.zeros(len(completions.tokens)))  # no demonstration at all: no batch
    return torch.zeros(lanes).index_add(0, completions.lane_of_prompt, losses)
