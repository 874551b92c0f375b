"""Evaluation on the suites of the task (validation, test, further sets), and the checks of `health`.

The noise of the sampled evaluation is the same for all runs and steps (common random numbers), so that differences
between runs are differences between models, and the untrained model's numbers are one number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from tinylora.adapters.noise import torch_stream
from tinylora.answers.rewards import Outcome, Score
from tinylora.engine.rollout import roll_out
from tinylora.engine.rows import Completions
from tinylora.engine.sampling import Request, Sampling
from tinylora.records.progress import Progress
from tinylora.tasks.problem import Suite
from tinylora.train.health import check
from tinylora.train.pack import LaneMetrics, Metrics, Pack


def evaluate(pack: Pack, lanes: Sequence[int], progress: Progress) -> LaneMetrics:
    """Metrics of some lanes by index: accuracy (greedy, sampled; strict, flexible), length, outcomes, `health`.

    A lane whose model gives no probabilities fails and has none: what it says is noise, and a score would hide that.
    """
    settings, chosen = pack.config.eval, pack.config.rollout
    modes = {
        "greedy": Sampling(chosen.max_new_tokens, temperature=None),
        "sampled": Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p),
    }
    metrics: LaneMetrics = {lane: {} for lane in lanes}
    for number, suite in enumerate(pack.task.suites(settings)):
        prompts = pack.encode_prompts(suite.problems)
        for mode, sampling in modes.items():
            progress.phase(f"evaluating {len(lanes)} lanes: {len(suite.problems)} {suite.name} problems, {mode}")
            answers = _decode(pack, lanes, prompts, sampling, suite)
            if all(pack.lanes[lane].failure for lane in lanes):
                return {lane: {} for lane in lanes}
            for lane, values in zip(lanes, _measure(pack, suite, answers), strict=True):
                metrics[lane] |= {f"eval/{suite.name}/{mode}_{name}": value for name, value in values.items()}
            if number == 0 and mode == "greedy":
                for lane, found in zip(lanes, check(pack, lanes, answers, progress), strict=True):
                    metrics[lane] |= found
                    merged = math.isfinite(found.get("eval/merge_kl", 0.0))
                    if not merged and pack.lanes[lane].failure is None:
                        pack.lanes[lane].failure = f"merging gives no finite model at step {pack.lanes[lane].step}"
    return {lane: {} if pack.lanes[lane].failure else found for lane, found in metrics.items()}


def _decode(
    pack: Pack, lanes: Sequence[int], prompts: Sequence[Sequence[int]], sampling: Sampling, suite: Suite
) -> Completions:
    """Completions of every prompt by every lane, lane by lane, with the same noise for each lane; one where greedy."""
    noise, samples = None, 1
    if sampling.temperature is not None:
        samples = suite.samples
        shape = (len(prompts) * samples, sampling.max_new_tokens)
        noise = torch.rand(shape, generator=torch_stream(0, "evaluation", suite.name)).repeat(len(lanes), 1)
    repeated, lane_of_prompt = list(prompts) * len(lanes), torch.tensor(lanes).repeat_interleave(len(prompts))
    rollout = roll_out(pack.engine, Request(repeated, lane_of_prompt, noise, sampling, samples))
    finite = rollout.logp.isfinite().all(1).view(len(lanes), -1).all(1)
    for lane, healthy in zip(lanes, finite.tolist(), strict=True):
        if not healthy:
            pack.lanes[lane].failure = f"the model's probabilities are not finite at step {pack.lanes[lane].step}"
    return rollout.completions(repeated, lane_of_prompt)


def _measure(pack: Pack, suite: Suite, answers: Completions) -> list[Metrics]:
    """The summary of each lane's answers; they stand lane by lane, those to one problem together."""
    own = [problem for problem in suite.problems for _ in range(answers.samples)]
    scores = pack.score(own * (len(answers.tokens) // len(own)), answers.tokens)
    lengths = [len(tokens) for tokens in answers.tokens]
    lanes = [slice(start, start + len(own)) for start in range(0, len(scores), len(own))]
    return [summarise(scores[lane], lengths[lane], answers.samples) for lane in lanes]


def summarise(scores: Sequence[Score], lengths: Sequence[int], samples: int = 1) -> Metrics:
    """Accuracy by both ways of scoring, mean length in tokens, and the share of each strict outcome.

    With several samples of each problem, which stand together, these are means over all of them (avg@k), and `pass` is
    the share of problems with a strictly correct one among theirs (pass@k).
    """
    outcomes, count = Counter(score.strict for score in scores), len(scores)
    metrics = {
        "strict": outcomes[Outcome.correct] / count,
        "flexible": sum(score.flexible is Outcome.correct for score in scores) / count,
        "tokens": sum(lengths) / count,
        **{f"outcome/{outcome.name}": outcomes[outcome] / count for outcome in Outcome},
    }
    if samples > 1:
        groups = [scores[start : start + samples] for start in range(0, count, samples)]
        solved = sum(any(score.strict is Outcome.correct for score in group) for group in groups)
        metrics["pass"] = solved / len(groups)
    return metrics
