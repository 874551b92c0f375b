"""Task `reasoning_gym`: problems that a generator of the package reasoning-gym makes, offline and without end.

A problem is a function of generator, options, seed and index. The splits are disjoint by construction: a stable hash of
the question, in a form in which operands have no order (`problem.canonical`), says which split it belongs to. Answers
are scored by the generator's own check; some of these checks run an answer as Python (n_queens, for one, or those that
ask SymPy), so give untrusted models other generators.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from tinylora.answers.rewards import Score
from tinylora.settings.choices import Demonstrations, Split
from tinylora.settings.config import EvalConfig, TaskConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.seeds import stream_seed
from tinylora.tasks.problem import Entry, Problem, Suite, split_of
from tinylora.tasks.prompts import INSTRUCTIONS, answer_in_a_sentence, demonstration_of, prompt_digest, prompt_of
from tinylora.tasks.question_sets import commits_of, read_suites
from tinylora.tasks.scoring import answer_of, score_all

CHUNK = 100  # problems of one seed: some generators make them all at once, and some have no more
PATIENCE = 20  # chunks without a new problem of the split, after which there are taken to be none
SPLITS = 2  # raise it when the splits have other problems
NAME = "reasoning_gym"
REMEDY = (
    "give task.demonstrations=foreign, task.demonstrations=sampled (right answers of the untrained model)"
    " or algorithm=grpo"
)


class GeneratedTask:
    """Problems of one generator; suites of data sets beside them."""

    name = NAME
    chat = True

    def __init__(self, config: TaskConfig, suites: Sequence[str] = ()) -> None:
        self._config, self._suites = config, read_suites(suites, config)
        self._generator, self._options = _checked(config)
        made_by = [self._generator, self._options, version("reasoning-gym"), CHUNK, SPLITS]
        sets = [questions.data for questions in self._suites.values()]
        identity = json.dumps([made_by, [data.digest for data in sets]])
        self.data_digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.data_commits = commits_of(sets)
        self.prompt_digest = prompt_digest(INSTRUCTIONS[config.template], self.chat, config.system_message)
        self.notes = [questions.note for questions in self._suites.values() if questions.note is not None]

    def batch(self, seed: int, step: int, count: int) -> list[Problem]:
        """The training problems of one lane's step: a pure function of its seed and step."""
        drawn: list[Problem] = []
        for number in range(PATIENCE + count):
            chunk = self._chunk(stream_seed(seed, NAME, self._generator, Split.train.value, step, number))
            drawn += itertools.islice((p for p in chunk if split_of(p.question) is Split.train), count - len(drawn))
            if len(drawn) == count:
                return drawn
        raise self._too_few(Split.train)

    def held_out(self, split: Split, count: int) -> list[Problem]:
        """The first `count` different problems of the fixed validation or test set (all, where there are fewer)."""
        drawn: dict[str, Problem] = {}
        newest = 0
        for number in itertools.count():
            for problem in _fixed_chunk(self._generator, self._options, number):
                if split_of(problem.question) is split and problem.question not in drawn:
                    drawn[problem.question], newest = problem, number
                if len(drawn) == count:
                    return list(drawn.values())
            if number - newest >= PATIENCE:
                break
        if not drawn:
            raise self._too_few(split)
        return list(drawn.values())

    def known_problems(self) -> list[Problem]:
        """Those of the suites: its own are made."""
        return [problem for questions in self._suites.values() for problem in questions.problems]

    def suites(self, settings: EvalConfig) -> list[Suite]:
        """Validation, test, and the asked-for sets."""
        return [
            Suite("validation", self.held_out(Split.validation, settings.validation_items)),
            Suite("test", self.held_out(Split.test, settings.test_items)),
            *(self._suites[name].suite(name, settings) for name in dict.fromkeys(settings.suites)),
        ]

    def prompt(self, problem: Problem) -> str:
        """The user's message: the question and what is asked of the answer."""
        return prompt_of(problem.question, self._config.template)

    def demonstration(self, problem: Problem, manner: Demonstrations) -> str:
        """The answer in a sentence, which is foreign to any model; UsageError for the model's own manner."""
        if manner is Demonstrations.own:
            given = f"task={NAME} task.demonstrations=own"
            raise UsageError(given, "its problems have answers, and no way to them in a model's own manner", REMEDY)
        if not problem.answer:
            raise UsageError(f"problem {problem.id}", "its generator gives no answer to learn from", REMEDY)
        return demonstration_of(answer_in_a_sentence(problem.answer), problem.answer, self._config.template)

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        """Strict: the final answer in the form that the prompt asks for. Flexible: wherever it stands."""
        return score_all(problems, completions, self._config)

    def answer_of(self, problem: Problem, completion: str) -> str | None:
        """What is read as the answer, strictly, or else wherever it stands."""
        return answer_of(problem, completion, self._config)

    def _chunk(self, seed: int) -> Iterator[Problem]:
        return _problems(self._generator, self._options, seed)

    def _too_few(self, split: Split) -> UsageError:
        return UsageError(
            f"task.generator={self._generator} task.generator_options={self._options}",
            f"no {split.value} problems are found: one question in 8 is for validation, one in 8 for the test",
            "give options with which there are more different questions",
        )


@functools.lru_cache(maxsize=1024)  # the fixed problems are asked for at every evaluation, by both held-out splits
def _fixed_chunk(generator: str, options: str, number: int) -> tuple[Problem, ...]:
    return tuple(_problems(generator, options, stream_seed(0, NAME, generator, "held out", number)))


def _problems(generator: str, options: str, seed: int) -> Iterator[Problem]:
    """The problems of one seed, made as they are asked for."""
    import reasoning_gym

    seed >>= 32  # generators count up from it, and some take 32 bits only
    settings = json.loads(options)
    made = reasoning_gym.create_dataset(generator, seed=seed, size=CHUNK, **settings)
    for index in range(CHUNK):
        content = made[index]
        answer = content["answer"]
        yield Problem(
            id=f"{NAME}/{generator}/{seed}/{index}",
            question=content["question"],
            answer="" if answer is None else str(answer),
            solution=None,
            entry=Entry(generator, settings, seed, index, CHUNK),
        )


def _checked(config: TaskConfig) -> tuple[str, str]:
    """The generator and its options as JSON; UsageError where there are no such."""
    name, options = config.generator or "", config.generator_options
    generators = _generators()
    if name not in generators:
        raise UsageError(
            f"task.generator={config.generator}",
            f"it names one of the {len(generators)} generators of reasoning-gym",
            _one_of(name, list(generators), "task.generator="),
        )
    settings = dataclasses.fields(generators[name][1])
    known = [field.name for field in settings if field.name not in ("seed", "size")]  # these two are ours
    for option in options:
        if option not in known:
            raise UsageError(
                f"task.generator_options.{option}={options[option]}",
                f"{name} has the options {', '.join(known)}",
                _one_of(option, known, "task.generator_options."),
            )
    try:
        text = json.dumps(options, sort_keys=True)
        next(_problems(name, text, 0))
    except Exception as error:  # each generator checks its options in its own way, mostly by assert
        raise UsageError(
            f"task.generator={name} task.generator_options={options}",
            f"the generator makes no problem with these: {type(error).__name__}: {error}",
            "correct the options",
        ) from error
    return name, text


def _generators() -> dict[str, tuple[type, type]]:
    """Class and settings of every generator by name; UsageError where the package is missing."""
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UsageError(
            f"task={NAME}",
            f"it needs the package reasoning-gym, which cannot be imported: {error}",
            "run `pip install reasoning-gym`, or give another task",
        ) from error
    generators: dict[str, tuple[type, type]] = DATASETS
    return generators


def _one_of(given: Any, known: Sequence[str], prefix: str) -> str:
    close = difflib.get_close_matches(str(given), known, n=5, cutoff=0.4)
    return f"did you mean {', '.join(prefix + name for name in close)}?" if close else f"give {prefix}<one of them>"
