"""When a setting has a meaning: predicates of a RunConfig that can say in words what they ask for.

A setting that no point of a command uses must not be given by hand: what has no effect would look as if it had one.
Values of presets and files may have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinylora.settings.choices import ALL, AUTO, Adapter, Algorithm, Demonstrations

GENERATED = "reasoning_gym"  # makes its problems, unless task.training_set names questions that were written down
SUMS = "sums"


@dataclass(frozen=True)
class Need:
    """What a run must be like for a setting to have a meaning."""

    words: str
    """As a condition for messages: "adapter=tinylora"."""
    met: Callable[[Any], bool]

    def __call__(self, run: Any) -> bool:
        """Whether a run is like that."""
        return bool(self.met(run))


def of_adapters(name: str) -> Need:
    """Of a setting that some adapters use, as `Adapter.unused` says."""
    users = [kind.value for kind in Adapter if name not in kind.unused]
    return Need(f"adapter={' or '.join(users)}", lambda run: name not in run.adapter.name.unused)


FIRST_WITH_PROJECTION_SEED = 3  # recipes before it drew projections from the seed itself

DRAWS_PROJECTIONS = Need(
    "adapter=tinylora",
    lambda run: run.adapter.name is Adapter.tinylora and run.recipe >= FIRST_WITH_PROJECTION_SEED,
)


def reads_questions(task: Any) -> bool:
    """Whether a task asks the questions of a data set, rather than problems that are made."""
    return not (task.name == SUMS or makes_problems(task))


def makes_problems(task: Any) -> bool:
    """Whether a generator of reasoning-gym makes the problems of a task."""
    return task.name == GENERATED and task.training_set is None


def _reads_sets(run: Any) -> bool:
    return reads_questions(run.task) or bool(run.eval.suites)


TRAINS = Need("something that is trained: another adapter than none", lambda run: run.trains)
TRAINS_NOTHING = Need("adapter=none", lambda run: not run.trains)
SAMPLES_GROUPS = Need("algorithm=grpo", lambda run: run.trains and run.algorithm.name is Algorithm.grpo)
TIES_SOME = Need(
    "adapter=tinylora or lora_xs, with n_tie below all",
    lambda run: run.adapter.name.has_basis and run.n_tie != ALL,
)
HAS_BASIS = Need("adapter=tinylora or lora_xs", lambda run: run.adapter.name.has_basis)
LEARNS_DEMONSTRATIONS = Need("algorithm=sft", lambda run: run.trains and run.algorithm.name is Algorithm.sft)
SAMPLES_DEMONSTRATIONS = Need(
    f"algorithm=sft task.demonstrations={Demonstrations.sampled.value}",
    lambda run: LEARNS_DEMONSTRATIONS(run) and run.task.demonstrations is Demonstrations.sampled,
)
RATE_IS_AUTO = Need(f"lr={AUTO}", lambda run: run.trains and run.lr == AUTO)

NO_FOLDER_OF_MODEL = Need("no model.path, whose folder says it", lambda run: run.model.path is None)
OF_THE_HUB = Need("model.hub, and no model.path", lambda run: run.model.hub is not None and run.model.path is None)
CONVERSES = Need("a task that is a conversation, as all but sums are", lambda run: run.task.name != SUMS)

READS_SETS = Need("a task of questions, or eval.suites", _reads_sets)
READS_THE_HUB = Need(
    "questions from the hub: a task of questions or eval.suites, and no task.folder",
    lambda run: _reads_sets(run) and run.task.folder is None,
)

TRAINS_ON_SETS = Need(
    "algorithm=grpo or sft on the training questions of a data set",
    lambda run: run.trains and run.algorithm.name is not Algorithm.random_search and reads_questions(run.task),
)
NOT_SUMS = Need("another task than sums", lambda run: run.task.name != SUMS)
MAKES_PROBLEMS = Need(
    f"task={GENERATED} without task.training_set, which is made of questions that are there already",
    lambda run: makes_problems(run.task),
)
TASK_SAYS_LENGTH = Need(
    "no other rollout.max_new_tokens, of which it is the default",
    lambda run: run.rollout.max_new_tokens == run.task.max_new_tokens,
)
