"""Evaluation on the suites of the task (validation, test, further sets), and the paper's merge check.

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
from tinylora.engine.rows import Completions, completion_logits, lay_out, micro_batches
from tinylora.engine.sampling import Request, Sampling
from tinylora.records.progress import Progress
from tinylora.tasks.problem import Suite
from tinylora.train.pack import LaneMetrics, Metrics, Pack

MERGE_ITEMS = 16  # problems of the first suite whose greedy completions the merge check reads
MERGE_TOKENS = 1024  # at once: it compares whole distributions, in double precision


def evaluate(pack: Pack, lanes: Sequence[int], progress: Progress) -> LaneMetrics:
    """Metrics of some lanes by index: accuracy (greedy, sampled; strict, flexible), length, outcomes, merge check.

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
            if number == 0 and mode == "greedy" and pack.config.adapter.name.packs:  # else there is nothing to merge
                for lane, value in zip(lanes, _merge_kls(pack, lanes, answers), strict=True):
                    metrics[lane]["eval/merge_kl"] = value
                    if not math.isfinite(value) and pack.lanes[lane].failure is None:
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


def _merge_kls(pack: Pack, lanes: Sequence[int], answers: Completions) -> list[float]:
    """The merge check of each lane, on its first answers."""
    prompts = len(answers.prompts) // len(lanes)

    def check(places: Sequence[int]) -> list[float]:
        firsts = [place * prompts for place in places]
        reads = [range(first, first + min(MERGE_ITEMS, prompts)) for first in firsts]
        return [merge_kl(pack, lanes[place], answers, read) for place, read in zip(places, reads, strict=True)]

    return pack.engine.ranks.share(range(len(lanes)), check)


@torch.inference_mode()
def merge_kl(pack: Pack, lane: int, answers: Completions, prompts: Sequence[int]) -> float:
    """KL(merged || adapter form), nats per token of a lane's answers to some `prompts`.

    The paper's rollouts come from merged weights, its gradients from the adapter form (section 4).
    """
    merged, total = pack.engine.adapters.merged_weights(lane), 0.0
    rows = lay_out(answers, prompts, pack.engine.row_width)
    for batch in micro_batches(rows, min(pack.engine.limits.pass_tokens, MERGE_TOKENS)):
        merged_logits, places = completion_logits(pack.engine.model, answers, batch, merged)
        with pack.engine.adapters.rows(torch.tensor([lane]).repeat(len(batch))):
            adapter_logits, _ = completion_logits(pack.engine.model, answers, batch)
        of_merged, of_adapter = (x.double().log_softmax(-1) for x in (merged_logits, adapter_logits))
        total += float((of_merged.exp() * (of_merged - of_adapter)).sum(-1)[places].sum())
    mean = total / sum(len(answers.tokens[prompt]) for prompt in prompts)
    return 0.0 if mean < 0 else mean  # NaN stays NaN
