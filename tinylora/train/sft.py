"""SFT over lanes: next-token loss on one demonstration per problem, one Adam step per batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from tinylora.engine.gradients import backward
from tinylora.engine.rows import Completions, Row, completion_logps, completion_mask, numbers
from tinylora.train.losses import sft_loss
from tinylora.train.pack import LaneMetrics, LaneRun, Pack, apply_gradient


def sft_step(pack: Pack, lanes: Sequence[LaneRun]) -> LaneMetrics:
    """Train every lane by one step on demonstrations of its own manner; returns the metrics of each, by its index."""
    started = time.perf_counter()
    count = pack.config.algorithm.prompts
    problems = [p for lane in lanes for p in pack.task.batch(lane.config.seed, lane.step + 1, count)]
    manners = [lane.config.task.demonstrations for lane in lanes for _ in range(count)]
    texts = [pack.task.demonstration(problem, manner) for problem, manner in zip(problems, manners, strict=True)]
    lane_of_prompt = torch.tensor([lane.index for lane in lanes]).repeat_interleave(count)
    prompts = pack.encode_prompts(problems)
    targets = [
        tokens[: pack.engine.room_after(prompt, len(tokens))]
        for prompt, tokens in zip(prompts, pack.encode_completions(texts), strict=True)
    ]
    completions = Completions(prompts, lane_of_prompt, targets)
    losses = accumulate(pack, completions)
    metrics = {}
    for place, lane in enumerate(lanes):
        own = completions.tokens[place * count : (place + 1) * count]
        stepped = apply_gradient(pack.engine.adapters, lane, losses[lane.index].item())
        metrics[lane.index] = stepped | {"train/completion_tokens": sum(map(len, own)) / count}
    seconds = time.perf_counter() - started
    times = {"time/train_s": seconds, "time/step_s": seconds}
    return {index: lane_metrics | times for index, lane_metrics in metrics.items()}


def accumulate(pack: Pack, completions: Completions) -> torch.Tensor:
    """Give every lane's v the gradient of its mean loss per token; returns the losses (L,)."""
    lanes = len(pack.lanes)
    share = 1.0 / completions.tokens_per_lane(lanes).clamp(min=1)  # (L,): of one token in its lane's loss

    def batch_loss(batch: Sequence[Row]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mask = completion_mask(completions, batch, pack.engine.model.device)
        logp = completion_logps(pack.engine.model, completions, batch)
        weights = share[completions.lane_of_prompt[numbers(batch)]]  # one completion of each prompt
        return sft_loss(logp, mask) * weights.to(pack.engine.model.device), {}

    found = backward(pack.engine, completions, range(len(completions.prompts)), batch_loss)
    return torch.zeros(lanes).index_add(0, completions.lane_of_prompt, found["loss"])
