"""Tasks that ask the questions of a data set: `gsm8k`, `math`, and the sets that models are only evaluated on.

Questions of reasoning-gym that were written down once (`task=reasoning_gym task.training_set=<name>`, files
`<name>-train.jsonl` and `<name>-test.jsonl` in `task.folder`; see `experiments.questions`) are such a task, too: it
needs no package, its splits are those of the generator, and answers are compared with the gold answer.

    training     the rows of the training set, but those left out: without an answer, known to be broken, repeated,
                 and for SFT those without a solution
    validation   about 5% of the training set, by a stable hash of the row's id, or those whose id begins with
                 `validation/`; never trained on
    test         every row of the test set that has an answer

What is left out is counted in the task's notes.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinylora.answers import gold_answer
from tinylora.answers.quantities import ROUNDED, is_rounded
from tinylora.answers.rewards import Score
from tinylora.settings.choices import Checker, Demonstrations, Split, Strict
from tinylora.settings.config import EvalConfig, TaskConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.seeds import python_stream
from tinylora.tasks.problem import Problem, Suite, split_of
from tinylora.tasks.prompts import INSTRUCTIONS, demonstration_of, prompt_digest, prompt_of
from tinylora.tasks.reading import DataSet, Row, read_set, same_text
from tinylora.tasks.scoring import answer_of, score_all
from tinylora.tasks.sources import SOURCES, SUITES, TESTS, TRAINING

HELD_FOR_VALIDATION = "validation/"
"""Where ids of a written training set begin with it, these problems are its validation part, and no others."""
FEW = 200  # questions of a written set below which each is sampled several times


@dataclass(frozen=True)
class Questions:
    """The problems of one data set, and what was left out of it."""

    data: DataSet
    problems: tuple[Problem, ...]
    note: str | None

    def suite(self, name: str, settings: EvalConfig) -> Suite:
        """Its first problems, as many as are asked for."""
        source = SOURCES.get(self.data.name)
        few = len(self.problems) < FEW if source is None else source.few
        samples = settings.samples_per_item if few else 1
        return Suite(name, self.problems[: settings.test_items], samples)


class QuestionTask:
    """A task of TESTS. `solutions`: train on nothing but rows that have a solution."""

    chat = True

    def __init__(self, config: TaskConfig, suites: Sequence[str] = (), solutions: bool = False) -> None:
        self.name, self._config = config.name, config
        training, test = _sets_of(config)
        self._test = read_questions(test, config)
        self._suites = read_suites(suites, config)
        self._training = read_questions(training, config, training=True) if training else None
        own = [self._test] if self._training is None else [self._training, self._test]
        read = [*own, *self._suites.values()]
        self.data_digest = digest_of([questions.data for questions in read])
        self.data_commits = commits_of([questions.data for questions in read])
        self.prompt_digest = prompt_digest(INSTRUCTIONS[config.template], self.chat, config.system_message)
        self.notes = list(dict.fromkeys(questions.note for questions in read if questions.note is not None))
        self._problems: dict[Split, Sequence[Problem]] = {Split.test: self._test.problems}
        if self._training is not None:
            if config.demonstrations is Demonstrations.sampled:  # people's solutions are what others are compared with
                solutions = solutions and any(problem.solution is not None for problem in self._training.problems)
            self._problems |= self._split(self._training, solutions)
            self.notes.append(_overlap(self._training, [self._test, *self._suites.values()]))

    def batch(self, seed: int, step: int, count: int) -> list[Problem]:
        """The training problems of one lane's step: a pure function of the arguments.

        Step n (the first is 1) takes the n-th `count` problems of an endless order in which each epoch is a shuffle of
        its own.
        UsageError where the task only evaluates.
        """
        if Split.train not in self._problems:
            raise UsageError(
                f"task={self.name} with training",
                f"{self.name} is a test set, and nothing is trained on it",
                f"give task=math eval.suites=[{self.name}] to train on MATH and evaluate on it, or adapter=none",
            )
        problems = self._problems[Split.train]
        places = (divmod(place, len(problems)) for place in range((step - 1) * count, step * count))
        return [problems[_order(self.name, seed, epoch, len(problems))[index]] for epoch, index in places]

    def held_out(self, split: Split, count: int) -> list[Problem]:
        """The first `count` problems of a split, in the order of its file (all, where there are fewer)."""
        return list(self._problems.get(split, ())[:count])

    def known_problems(self) -> list[Problem]:
        """Those of all sets that were read."""
        read = [self._training, self._test, *self._suites.values()]
        return [problem for questions in read if questions is not None for problem in questions.problems]

    def leave_out_long(self, most: int, count: Callable[[Sequence[str]], Sequence[int]]) -> None:
        """Train on no problem whose prompt has more than `most` tokens, and count them; `count` says how many it has.

        Raises UsageError where none is left.
        """
        problems = self._problems.get(Split.train, ())
        lengths = count([self.prompt(problem) for problem in problems]) if problems else ()
        kept = [problem for problem, length in zip(problems, lengths, strict=True) if length <= most]
        left_out = len(problems) - len(kept)
        if left_out == len(problems):
            raise UsageError(
                f"task.max_prompt_tokens={most}",
                f"the prompts of {self.name} have {min(lengths, default=0)} tokens and more, so none would be left",
                "give a larger number, or leave it out",
            )
        self._problems[Split.train] = kept
        self.notes.append(f"{left_out} of {len(problems)} training prompts have more than {most} tokens: left out.")

    def suites(self, settings: EvalConfig) -> list[Suite]:
        """Validation where there is a training set, test, and the asked-for sets."""
        suites = [self._test.suite("test", settings)]
        if self._training is not None:
            suites.insert(0, Suite("validation", self.held_out(Split.validation, settings.validation_items)))
        return suites + [self._suites[name].suite(name, settings) for name in dict.fromkeys(settings.suites)]

    def prompt(self, problem: Problem) -> str:
        """The user's message: the question and what is asked of the answer."""
        return prompt_of(problem.question, self._config.template)

    def demonstration(self, problem: Problem, manner: Demonstrations) -> str:
        """The data set's solution, which is foreign to any model; UsageError for the model's own manner."""
        if manner is Demonstrations.own:
            raise UsageError(
                f"task={self.name} task.demonstrations=own",
                f"{self.name} has only solutions that people wrote, in no model's own manner",
                "give task.demonstrations=foreign, or sampled: right answers of the untrained model",
            )
        if problem.solution is None:
            raise UsageError(f"row {problem.id}", "it has no solution to learn from", "give algorithm=grpo")
        return demonstration_of(problem.solution, problem.answer, self._config.template)

    def score_all(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Score]:
        """Strict: the final answer in the form that the prompt asks for, or by a protocol's rule. Flexible: any."""
        return score_all(problems, completions, self._config)

    def answer_of(self, problem: Problem, completion: str) -> str | None:
        """What is read as the answer, strictly, or else wherever it stands."""
        return answer_of(problem, completion, self._config)

    def _split(self, training: Questions, solutions: bool) -> dict[Split, Sequence[Problem]]:
        """The training and the validation part; counts what has no solution where solutions are needed."""
        parts: dict[Split, list[Problem]] = {Split.train: [], Split.validation: []}
        marked = any(problem.id.startswith(HELD_FOR_VALIDATION) for problem in training.problems)
        for problem in training.problems:
            parts[_split_of(problem, training.data.name, marked)].append(problem)
        for split, problems in parts.items():
            if not problems:
                raise UsageError(
                    f"data set {training.data.name} with {len(training.problems)} training rows",
                    f"about one row in 20 is set aside for validation, and none is left for {split.name}",
                    "give the whole training set",
                )
        if solutions:
            rows = len(parts[Split.train])
            parts[Split.train] = [problem for problem in parts[Split.train] if problem.solution is not None]
            without = rows - len(parts[Split.train])
            if not parts[Split.train]:
                raise UsageError(
                    f"data set {training.data.name} with algorithm=sft",
                    "no row of it has a solution",
                    "give algorithm=grpo, or rows with solutions",
                )
            if without:
                self.notes.append(f"{without} of {rows} training rows have no solution and are left out of SFT.")
        return dict(parts)


def read_questions(name: str, config: TaskConfig, training: bool = False) -> Questions:
    """The problems of a set. Raises UsageError where an answer cannot be parsed, or as `read_set` does."""
    data = read_set(name, config.folder, config.revision)
    broken = SOURCES[name].broken if name in SOURCES else frozenset()
    left_out: Counter[str] = Counter()
    problems: list[Problem] = []
    seen: set[str] = set()
    for row in data.rows:
        question = same_text(row.question)
        if row.answer is None:
            left_out["without an answer"] += 1
        elif training and row.id in broken:
            left_out["known to be broken"] += 1
        elif training and question in seen:
            left_out["that repeat a question"] += 1
        else:
            seen.add(question)
            problems.append(_problem_of(row, row.answer, data, config))
    if not problems:
        raise UsageError(f"data set {name}", f"none of its {len(data.rows)} rows has an answer", "give the whole set")
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    note = f"{left_out.total()} of {len(data.rows)} rows of {name} are left out: {counts}." if counts else None
    return Questions(data, tuple(problems), note)


def read_suites(names: Sequence[str], config: TaskConfig) -> dict[str, Questions]:
    """The sets of `eval.suites` by name; UsageError for an unknown one."""
    for name in names:
        if name not in SUITES:
            raise UsageError(
                f"eval.suites with {name}", "no evaluation set has this name", f"give some of: {', '.join(SUITES)}"
            )
    return {name: read_questions(SUITES[name], config) for name in dict.fromkeys(names)}


def digest_of(sets: Sequence[DataSet]) -> str:
    """16 hex digits that identify several sets."""
    return hashlib.sha256(" ".join(data.digest for data in sets).encode()).hexdigest()[:16]


def commits_of(sets: Sequence[DataSet]) -> Mapping[str, str]:
    """The commit of each set that came from the hub."""
    return {data.name: data.commit or "unknown" for data in sets if data.from_hub}


def _sets_of(config: TaskConfig) -> tuple[str | None, str]:
    """The set to be trained on, where there is one, and the one to be tested on."""
    if config.name in TESTS:
        return _training_set(config), TESTS[config.name]
    if config.folder is None:
        raise UsageError(
            f"task={config.name} task.training_set={config.training_set}",
            "questions that were written down are read from a folder",
            "give task.folder=<folder>, or no task.training_set, for questions that are made as they are asked for",
        )
    return f"{config.training_set}-train", f"{config.training_set}-test"


def _training_set(config: TaskConfig) -> str | None:
    """The set to be trained on; None for tasks that only evaluate."""
    known = TRAINING.get(config.name, ())
    if config.training_set is None:
        return known[0] if known else None
    if config.training_set not in known:
        raise UsageError(
            f"task={config.name} task.training_set={config.training_set}",
            f"{config.name} can be trained on: {', '.join(known) or 'nothing'}",
            "give one of these, or leave task.training_set out",
        )
    return config.training_set


def _problem_of(row: Row, answer: str, data: DataSet, config: TaskConfig) -> Problem:
    """The problem of a row; UsageError where its gold answer cannot be compared as the settings ask."""
    gold = gold_answer(answer, config.checker, config.strict)
    if gold is not None:
        rounded = data.name in SOURCES and SOURCES[data.name].rounded and is_rounded(gold)
        return Problem(row.id, row.question, gold, row.solution, ROUNDED if rounded else 0.0)
    given, shown = f"row {row.id} of data set {data.name}", repr(answer[-80:])
    if config.strict is Strict.verl:
        rule = f"verl's rule compares numbers as text, and its gold answer is no number in the usual spelling: {shown}"
        raise UsageError(given, rule, "correct the row, leave the set out, or give task.strict=form")
    if config.checker is Checker.numeric:
        remedy = "correct the row; for answers other than numbers give task.checker=math"
        raise UsageError(given, f"the numeric checker reads numbers alone, and its gold answer is {shown}", remedy)
    rule = f"the {config.checker.value} checker cannot parse its gold answer: {shown}"
    raise UsageError(given, rule, "correct the row, or take it out of the set")


def _overlap(training: Questions, tests: Sequence[Questions]) -> str:
    known = {same_text(problem.question) for problem in training.problems}
    counts = {
        test.data.name: f"{sum(same_text(problem.question) in known for problem in test.problems)} of "
        f"{len(test.problems)} in {test.data.name}"
        for test in tests
    }
    return f"Test questions that are also in {training.data.name}: {', '.join(counts.values())}."


def _split_of(problem: Problem, name: str, marked: bool) -> Split:
    """Training or validation, of a problem of a training set; `marked`: its ids say it."""
    if marked:
        return Split.validation if problem.id.startswith(HELD_FOR_VALIDATION) else Split.train
    if name not in SOURCES:
        return Split.validation if split_of(problem.question) is Split.validation else Split.train
    return Split.train if hashlib.sha256(problem.id.encode()).digest()[0] % 20 else Split.validation


@functools.lru_cache(maxsize=64)  # one entry a lane: the order of its current epoch
def _order(task: str, seed: int, epoch: int, count: int) -> tuple[int, ...]:
    order = list(range(count))
    python_stream(seed, task, "order", epoch).shuffle(order)
    return tuple(order)
