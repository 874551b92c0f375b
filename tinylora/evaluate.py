"""Evaluation on the fixed validation and test problems, and the paper's merge check.

The noise of the sampled evaluation is the same for all runs and steps (common random numbers), so that differences
between runs are differences between models, and the untrained model's numbers are one number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch.func import functional_call

from tinylora.config import Split
from tinylora.pack import Metrics, Pack
from tinylora.progress import Progress
from tinylora.rewards import Outcome, Score
from tinylora.rollout import Rollout, Sampling, roll_out
from tinylora.seeds import torch_stream
from tinylora.tasks.problem import Problem

MERGE_ITEMS = 16  # validation problems whose greedy completions the merge check reads


def evaluate(pack: Pack, lane_indices: Sequence[int], progress: Progress) -> list[Metrics]:
    """Metrics of each lane: greedy and sampled accuracy (strict and flexible), length, outcomes, merge check."""
    settings, chosen = pack.config.eval, pack.config.rollout
    modes = {
        "greedy": Sampling(chosen.max_new_tokens, temperature=None),
        "sampled": Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p),
    }
    metrics: list[Metrics] = [{} for _ in lane_indices]
    for split, items in ((Split.validation, settings.validation_items), (Split.test, settings.test_items)):
        problems = pack.task.held_out(split, items)
        prompts = [pack.encode_prompt(problem) for problem in problems]
        for mode, sampling in modes.items():
            progress.phase(f"evaluating {len(lane_indices)} lanes: {len(problems)} {split.value} problems, {mode}")
            found = _measure(pack, lane_indices, problems, prompts, sampling, split)
            for lane_metrics, values in zip(metrics, found, strict=True):
                lane_metrics |= {f"eval/{split.value}/{mode}_{name}": value for name, value in values.items()}
    for lane_metrics, lane in zip(metrics, lane_indices, strict=True):
        lane_metrics["eval/merge_kl"] = merge_kl(pack, lane)
    return metrics


def _measure(
    pack: Pack,
    lanes: Sequence[int],
    problems: Sequence[Problem],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    split: Split,
) -> list[Metrics]:
    """Decode all problems for all lanes, `pack.rollout_rows` rows at a time."""
    shape, stream = (len(problems), sampling.max_new_tokens), torch_stream(0, "evaluation", split.value)
    noise = torch.rand(shape, generator=stream) if sampling.temperature is not None else None
    per_batch = max(1, pack.config.pack.rollout_rows // len(lanes))
    scores: list[list[Score]] = [[] for _ in lanes]
    lengths: list[list[int]] = [[] for _ in lanes]
    for start in range(0, len(problems), per_batch):
        part = slice(start, start + per_batch)
        here = problems[part]
        rollout = decode(pack, lanes, prompts[part], None if noise is None else noise[part], sampling)
        for place in range(len(lanes)):
            for number, problem in enumerate(here):
                row = place * len(here) + number
                scores[place].append(pack.task.score(problem, pack.decode(rollout.completion(row))))
                lengths[place].append(int(rollout.lengths[row]))
    return [summarise(lane_scores, lane_lengths) for lane_scores, lane_lengths in zip(scores, lengths, strict=True)]


def decode(
    pack: Pack, lanes: Sequence[int], prompts: Sequence[Sequence[int]], noise: torch.Tensor | None, sampling: Sampling
) -> Rollout:
    """One completion of every prompt by every lane, lane by lane; `noise` (N, T) is the same for each lane."""
    noise = noise.repeat(len(lanes), 1) if noise is not None else None
    lane_of_prompt = torch.tensor(list(lanes)).repeat_interleave(len(prompts))
    return roll_out(
        pack.model, pack.adapter, list(prompts) * len(lanes), lane_of_prompt, noise, sampling, 1,
        pack.end_tokens, pack.pad_token,
    )  # fmt: skip


def summarise(scores: Sequence[Score], lengths: Sequence[int]) -> Metrics:
    """Accuracy by both ways of scoring, mean length in tokens, and the share of each strict outcome."""
    outcomes, count = Counter(score.strict for score in scores), len(scores)
    return {
        "strict": outcomes[Outcome.correct] / count,
        "flexible": sum(score.flexible is Outcome.correct for score in scores) / count,
        "tokens": sum(lengths) / count,
        **{f"outcome/{outcome.name}": outcomes[outcome] / count for outcome in Outcome},
    }


@torch.inference_mode()
def merge_kl(pack: Pack, lane: int) -> float:
    """KL(merged || adapter form), nats per completion token (paper section 4: rollouts come from merged weights).

    Read on the lane's greedy completions of the first validation problems.
    """
    problems = pack.task.held_out(Split.validation, MERGE_ITEMS)
    prompts = [pack.encode_prompt(problem) for problem in problems]
    sampling = Sampling(pack.config.rollout.max_new_tokens, temperature=None)
    rollout = decode(pack, [lane], prompts, None, sampling)
    merged = pack.adapter.merged_weights(lane)
    total, tokens = 0.0, 0
    for row, prompt in enumerate(prompts):
        completion = rollout.completion(row)
        arguments = {
            "input_ids": torch.tensor([[*prompt, *completion]], device=pack.model.device),
            "use_cache": False,
            "logits_to_keep": len(completion) + 1,
        }
        of_merged = functional_call(pack.model, merged, (), arguments).logits[0, :-1].double().log_softmax(-1)
        with pack.adapter.rows(torch.tensor([lane])):
            of_adapter = pack.model(**arguments).logits[0, :-1].double().log_softmax(-1)
        total += float((of_merged.exp() * (of_merged - of_adapter)).sum())
        tokens += len(completion)
    return max(0.0, total / tokens)
