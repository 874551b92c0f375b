"""Evaluation on the suites of the task (validation, test, further sets), and the paper's merge check.

Every problem is answered once greedily and `eval.samples` times by sampling, in one rollout: greedy answers share what
samples say, too, and so cost next to nothing. The noise of the samples is the same for all runs and steps (common
random numbers), so that differences between runs are differences between models, and the untrained model's numbers are
one number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tinylora.adapters.noise import torch_stream
from tinylora.answers.rewards import Outcome, Score
from tinylora.engine.rollout import roll_out
from tinylora.engine.rows import Completions, completion_logits, lay_out, micro_batches
from tinylora.engine.sampling import Request, Sampling
from tinylora.records.items import Bits, ItemLine, ids_of
from tinylora.records.progress import Progress
from tinylora.tasks.problem import Suite
from tinylora.train.pack import Metrics, Pack

MERGE_ITEMS = 16  # problems of the first suite whose greedy completions the merge check reads
MERGE_TOKENS = 1024  # at once: it compares whole distributions, in double precision


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation of a lane has found."""

    metrics: Metrics
    items: list[ItemLine]
    """The outcome of each problem, a line for each suite."""


def evaluate(pack: Pack, lanes: Sequence[int], progress: Progress) -> dict[int, Evaluation]:
    """Evaluations of some lanes by index: accuracy (greedy, sampled; strict, flexible), length, outcomes, merge check.

    A lane whose model gives no probabilities fails and has none: what it says is noise, and a score would hide that.
    """
    settings = pack.config.eval
    found = {lane: Evaluation({}, []) for lane in lanes}
    for number, suite in enumerate(pack.task.suites(settings)):
        samples = max(suite.samples, settings.samples)
        progress.phase(
            f"evaluating {len(lanes)} lanes: {len(suite.problems)} {suite.name} problems, {samples} samples and greedy"
        )
        answers = _decode(pack, lanes, suite, samples)
        if all(pack.lanes[lane].failure for lane in lanes):
            return {}
        for lane, (metrics, items) in zip(lanes, _measure(pack, lanes, suite, answers), strict=True):
            found[lane].metrics.update(metrics)
            found[lane].items.append(items)
        if number == 0 and pack.config.adapter.name.packs:  # else there is nothing to merge
            greedy = replace(answers, tokens=answers.tokens[:: 1 + samples])
            for lane, value in zip(lanes, _merge_kls(pack, lanes, greedy), strict=True):
                found[lane].metrics["eval/merge_kl"] = value
                if not math.isfinite(value) and pack.lanes[lane].failure is None:
                    pack.lanes[lane].failure = f"merging gives no finite model at step {pack.lanes[lane].step}"
    return {lane: evaluation for lane, evaluation in found.items() if pack.lanes[lane].failure is None}


def _decode(pack: Pack, lanes: Sequence[int], suite: Suite, samples: int) -> Completions:
    """A greedy and then `samples` sampled completions of every prompt by every lane, with the same noise for each lane.

    They stand lane by lane, those of a prompt together.
    """
    chosen, prompts = pack.config.rollout, pack.encode_prompts(suite.problems)
    sampling = Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p)
    shape = (len(prompts) * samples, chosen.max_new_tokens)
    noise = torch.rand(shape, generator=torch_stream(0, "evaluation", suite.name)).view(len(prompts), samples, -1)
    greedy = torch.full((len(prompts), 1, chosen.max_new_tokens), math.nan)
    noise = torch.cat([greedy, noise], dim=1).flatten(0, 1).repeat(len(lanes), 1)
    repeated, lane_of_prompt = prompts * len(lanes), torch.tensor(lanes).repeat_interleave(len(prompts))
    rollout = roll_out(pack.engine, Request(repeated, lane_of_prompt, noise, sampling, 1 + samples))
    finite = rollout.logp.isfinite().all(1).view(len(lanes), -1).all(1)
    for lane, healthy in zip(lanes, finite.tolist(), strict=True):
        if not healthy:
            pack.lanes[lane].failure = f"the model's probabilities are not finite at step {pack.lanes[lane].step}"
    return rollout.completions(repeated, lane_of_prompt)


def _measure(pack: Pack, lanes: Sequence[int], suite: Suite, answers: Completions) -> list[tuple[Metrics, ItemLine]]:
    """The metrics of each lane's answers, and the outcome of each problem."""
    own = [problem for problem in suite.problems for _ in range(answers.samples)]
    scores = pack.score(own * len(lanes), answers.tokens)
    lengths = [len(tokens) for tokens in answers.tokens]
    ids, found = ids_of(problem.id for problem in suite.problems), []
    for number, lane in enumerate(lanes):
        places = range(number * len(own), (number + 1) * len(own))
        greedy = [place for place in places if place % answers.samples == 0]
        sampled = [place for place in places if place % answers.samples]
        metrics: Metrics = {}
        bits: dict[str, Bits] = {}
        for mode, chosen, samples in (("greedy", greedy, 1), ("sampled", sampled, answers.samples - 1)):
            judged = [scores[place] for place in chosen]
            summary = summarise(judged, [lengths[place] for place in chosen], samples)
            metrics |= {f"eval/{suite.name}/{mode}_{name}": value for name, value in summary.items()}
            for name in ("strict", "flexible"):
                right = np.array([getattr(score, name) is Outcome.correct for score in judged])
                bits[f"{mode}_{name}"] = right if mode == "greedy" else right.reshape(-1, samples)
        found.append((metrics, ItemLine(pack.lanes[lane].step, suite.name, ids, **bits)))
    return found


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
