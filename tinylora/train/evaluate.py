"""Evaluation on the suites of the task (validation, test, further sets), and the checks of `health`.

Every problem is answered once greedily and `eval.samples` times by sampling, in one rollout: greedy answers share what
samples say, too, and so cost next to nothing. The noise of the samples is the same for all runs and steps (common
random numbers), so that differences between runs are differences between models, and the untrained model's numbers are
one number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from tinylora.adapters.noise import torch_stream
from tinylora.answers.rewards import Outcome, Score
from tinylora.engine.rollout import Tell, roll_out
from tinylora.engine.rows import Completions
from tinylora.engine.sampling import Request, Rollout, Sampling
from tinylora.records.items import Bits, ItemLine, ids_of
from tinylora.records.progress import Progress
from tinylora.records.samples import Sample
from tinylora.records.stopping import StopRequest
from tinylora.tasks.problem import Suite
from tinylora.train.health import check
from tinylora.train.pack import Metrics, Pack
from tinylora.train.samples import Answered, evaluated_rows, of_evaluation


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation of a lane has found."""

    metrics: Metrics
    items: list[ItemLine]
    """The outcome of each problem, a line for each suite."""
    samples: list[Sample]
    """What was said to the first problems of each suite."""
    unsure: list[str] = field(default_factory=list)
    """The suites in which a verdict was of the moment: the time for a check was over, or the check failed."""


class SoFar(Protocol):
    """What an evaluation had found before it was stopped (`found.FoundSuites`)."""

    def get(self, suite: str) -> dict[int, Evaluation] | None:
        """What was found in a suite, by lane; None where it is not finished."""

    def add(self, suite: str, found: Mapping[int, Evaluation]) -> None:
        """Note what a suite has shown."""


def evaluate(
    pack: Pack, lanes: Sequence[int], progress: Progress, stop: StopRequest | None = None, so_far: SoFar | None = None
) -> dict[int, Evaluation]:
    """Evaluations of some lanes by index: accuracy (greedy, sampled; strict, flexible), length, outcomes, `health`.

    A lane whose model gives no probabilities fails and has none: what it says is noise, and a score would hide that.
    Suites that were finished `so_far` are not evaluated again. Raises Stopped where `stop` was asked for.
    """
    found = {lane: Evaluation({}, [], []) for lane in lanes}
    for number, suite in enumerate(pack.task.suites(pack.config.eval)):
        measured = so_far.get(suite.name) if so_far else None
        if measured is None:
            measured = _measured(pack, lanes, suite, progress, stop, with_health=number == 0)
            if not measured:
                return {}
            if so_far and not any(pack.lanes[lane].failure for lane in lanes):
                so_far.add(suite.name, measured)
        for lane, of_suite in measured.items():
            found[lane].metrics.update(of_suite.metrics)
            found[lane].items.extend(of_suite.items)
            found[lane].samples.extend(of_suite.samples)
            found[lane].unsure.extend(of_suite.unsure)
    return {lane: evaluation for lane, evaluation in found.items() if pack.lanes[lane].failure is None}


def _measured(
    pack: Pack, lanes: Sequence[int], suite: Suite, progress: Progress, stop: StopRequest | None, with_health: bool
) -> dict[int, Evaluation]:
    """What some lanes are worth on a suite, with their `health` on its greedy answers; nothing where all fail."""
    answers, measured = evaluate_suite(pack, lanes, suite, progress, stop)
    if measured and with_health:
        greedy = replace(answers, tokens=answers.tokens[:: answers.samples])
        for lane, checked in zip(lanes, check(pack, lanes, greedy, progress), strict=True):
            measured[lane].metrics.update(checked)
            if not math.isfinite(checked.get("eval/merge_kl", 0.0)) and pack.lanes[lane].failure is None:
                pack.lanes[lane].failure = f"merging gives no finite model at step {pack.lanes[lane].step}"
    return measured


def evaluate_suite(
    pack: Pack, lanes: Sequence[int], suite: Suite, progress: Progress, stop: StopRequest | None = None
) -> tuple[Completions, dict[int, Evaluation]]:
    """What some lanes answer on one suite, lane by lane, and what it is worth, by lane; nothing where all of them fail.

    What a lane without probabilities says is measured all the same: its `failure` says not to believe it. Raises
    Stopped where `stop` was asked for: a process by itself stops in the midst of the answers, several before them.
    """
    samples = max(suite.samples, pack.config.eval.samples)
    who = f"{len(lanes)} lane{'' if len(lanes) == 1 else 's'}"
    how = f"{samples} sample{'' if samples == 1 else 's'} and greedy"
    what = f"evaluating {who}: {len(suite.problems)} {suite.name} problems, {how}"
    stop, ranks = stop or StopRequest(), pack.engine.ranks

    def tell(share: float) -> None:
        progress.phase(what, share)
        if ranks.count == 1:
            stop.obey()

    stop.obey(ranks.any(stop.reason))
    progress.phase(what)
    answers, rollout = _decode(pack, lanes, suite, samples, tell)
    if all(pack.lanes[lane].failure for lane in lanes):
        return answers, {}
    return answers, dict(zip(lanes, _measure(pack, lanes, suite, answers, rollout), strict=True))


def _decode(pack: Pack, lanes: Sequence[int], suite: Suite, samples: int, tell: Tell) -> tuple[Completions, Rollout]:
    """A greedy and then `samples` sampled completions of every prompt by every lane, with the same noise for each lane.

    They stand lane by lane, those of a prompt together.
    """
    chosen, prompts = pack.config.rollout, pack.encode_prompts(suite.problems)
    sampling = Sampling.of(chosen)
    shape = (len(prompts) * samples, chosen.max_new_tokens)
    noise = torch.rand(shape, generator=torch_stream(0, "evaluation", suite.name)).view(len(prompts), samples, -1)
    greedy = torch.full((len(prompts), 1, chosen.max_new_tokens), math.nan)
    noise = torch.cat([greedy, noise], dim=1).flatten(0, 1).repeat(len(lanes), 1)
    repeated, lane_of_prompt = prompts * len(lanes), torch.tensor(lanes).repeat_interleave(len(prompts))
    rollout = roll_out(pack.engine, Request(repeated, lane_of_prompt, noise, sampling, 1 + samples), tell)
    finite = rollout.logp.isfinite().all(1).view(len(lanes), -1).all(1)
    for lane, healthy in zip(lanes, finite.tolist(), strict=True):
        if not healthy:
            pack.lanes[lane].failure = f"the model's probabilities are not finite at step {pack.lanes[lane].step}"
    return rollout.completions(repeated, lane_of_prompt), rollout


def _measure(
    pack: Pack, lanes: Sequence[int], suite: Suite, answers: Completions, rollout: Rollout
) -> list[Evaluation]:
    """The metrics of each lane's answers, the outcome of each problem, and what is kept of what was said."""
    own = [problem for problem in suite.problems for _ in range(answers.samples)]
    kept = evaluated_rows(len(lanes), len(suite.problems), answers.samples)
    judged = pack.judge(own * len(lanes), answers.tokens, kept={row for rows in kept for row in rows})
    scores, answered = [each.score for each in judged], Answered(own * len(lanes), judged, rollout)
    lengths = [len(tokens) for tokens in answers.tokens]
    ids, found = ids_of(problem.id for problem in suite.problems), []
    for number, lane in enumerate(lanes):
        places = range(number * len(own), (number + 1) * len(own))
        greedy = [place for place in places if place % answers.samples == 0]
        sampled = [place for place in places if place % answers.samples]
        metrics: Metrics = {}
        bits: dict[str, Bits] = {}
        for mode, chosen, samples in (("greedy", greedy, 1), ("sampled", sampled, answers.samples - 1)):
            of_mode = [scores[place] for place in chosen]
            summary = summarise(of_mode, [lengths[place] for place in chosen], samples)
            metrics |= {f"eval/{suite.name}/{mode}_{name}": value for name, value in summary.items()}
            for name in ("strict", "flexible"):
                right = np.array([getattr(score, name) is Outcome.correct for score in of_mode])
                bits[f"{mode}_{name}"] = right if mode == "greedy" else right.reshape(-1, samples)
        samples_of_lane = of_evaluation(pack, pack.lanes[lane], suite.name, answered, kept[number])
        verdicts = {verdict for place in places for verdict in (scores[place].strict, scores[place].flexible)}
        unsure = [suite.name] if verdicts & {Outcome.timeout, Outcome.checker_error} else []
        items = [ItemLine(pack.lanes[lane].step, suite.name, ids, **bits)]
        found.append(Evaluation(metrics, items, samples_of_lane, unsure))
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
