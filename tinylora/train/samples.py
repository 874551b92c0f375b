"""Which completions of a run are kept to be read (`records.samples`), and what is said of each.

Of every evaluation: what is said to the first `PROBLEMS` problems of each suite, greedily and in the first sample. As
problems and noise are always the same, what has changed from one evaluation to another is the model. Of training, at
step 1 and then every few steps: the best and the worst completion of one group, the first of the step whose rewards
differ. Texts are those that were scored, and log-probabilities those of the sampler: nothing is computed again but what
was read as the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinylora.engine.sampling import Rollout
from tinylora.records.samples import BEST, GREEDY, SAMPLE, TRAINING, WORST, Sample
from tinylora.settings.config import RunConfig
from tinylora.tasks.problem import Problem
from tinylora.train.pack import Judged, LaneRun, Pack

PROBLEMS = 16  # of each suite
EVERY = 5  # steps from one group to the next, or more:
MOST_GROUPS = 100  # of a run
DIGITS = 4  # decimals of log-probabilities


@dataclass(frozen=True)
class Answered:
    """A rollout, with the problem that each of its rows answers and the verdict on it."""

    problems: Sequence[Problem]
    judged: Sequence[Judged]
    rollout: Rollout
    rewards: Sequence[float] | None = None
    """Of each row, where it is not 1 for a strictly right answer and 0 for others."""

    def reward(self, row: int) -> float:
        """What a row has earned."""
        return self.judged[row].score.reward if self.rewards is None else self.rewards[row]


def is_due(config: RunConfig, step: int) -> bool:
    """Whether a group of this training step, the first of which is 1, is kept."""
    return (step - 1) % max(EVERY, math.ceil(config.training_steps / MOST_GROUPS)) == 0


def due_rows(lanes: Sequence[LaneRun], rows: int) -> set[int]:
    """The rows of a step's rollout that may be kept: all `rows` of each lane whose next step is due."""
    due = [place for place, lane in enumerate(lanes) if is_due(lane.config, lane.step + 1)]
    return {row for place in due for row in range(place * rows, (place + 1) * rows)}


def of_group(pack: Pack, lane: LaneRun, answered: Answered, own: slice, size: int) -> list[Sample]:
    """The records of a lane's next step: its rows are `own`, in groups of `size`; none where it is not due.

    Equal rewards are told apart by the mean log-probability.
    """
    if not is_due(lane.config, lane.step + 1):
        return []
    groups = [range(start, start + size) for start in range(own.start, own.stop, size)]
    group = next((rows for rows in groups if len(set(map(answered.reward, rows))) > 1), groups[0])
    ordered = sorted(group, key=lambda row: (answered.reward(row), _logps(answered.rollout, row)[0]))
    kinds = {ordered[-1]: BEST} | ({ordered[0]: WORST} if size > 1 else {})
    return _records(pack, lane.step + 1, TRAINING, answered, kinds)


def evaluated_rows(lanes: int, problems: int, completions: int) -> list[dict[int, str]]:
    """For each lane, the rows of an evaluation that are kept, with their kinds; every problem has some completions."""
    firsts = [
        range(lane * problems * completions, (lane * problems + min(PROBLEMS, problems)) * completions, completions)
        for lane in range(lanes)
    ]
    return [{first + place: kind for first in own for place, kind in enumerate((GREEDY, SAMPLE))} for own in firsts]


def of_evaluation(pack: Pack, lane: LaneRun, suite: str, answered: Answered, kinds: Mapping[int, str]) -> list[Sample]:
    """The records of a lane's evaluation of a suite: of some rows, each with its kind."""
    return _records(pack, lane.step, suite, answered, kinds)


def _records(pack: Pack, step: int, suite: str, answered: Answered, kinds: Mapping[int, str]) -> list[Sample]:
    records = []
    for row, kind in kinds.items():
        problem, judged = answered.problems[row], answered.judged[row]
        assert judged.text is not None, "texts are kept of the rows that are recorded"
        mean, least = _logps(answered.rollout, row)
        records.append(
            Sample(
                step,
                kind,
                suite,
                problem.id,
                pack.task.prompt(problem),
                judged.text,
                pack.task.answer_of(problem, judged.text),
                problem.answer,
                judged.score.strict.name,
                judged.score.flexible.name,
                answered.reward(row),
                int(answered.rollout.lengths[row]),
                round(mean, DIGITS),
                round(least, DIGITS),
            )
        )
    return records


def _logps(rollout: Rollout, row: int) -> tuple[float, float]:
    """The mean and the least log-probability of a row's tokens (nats), of which there is at least one."""
    logp = rollout.logp[row, : int(rollout.lengths[row])]
    return float(logp.mean()), float(logp.min())
