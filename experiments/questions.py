"""Write questions of reasoning-gym into a folder once, for machines without that package; or find out how
a model does on questions before any training (`survey`, which has a help of its own).

    python -m experiments.questions survey model=smollm2-135m task=reasoning_gym task.generator=chain_sum,gcd,lcm
    python -m experiments.questions <folder> <name> <generator> [option=value ...] [--train 4000] [--held-out 512]
    python -m experiments.questions questions sums chain_sum min_terms=2 max_terms=2 min_digits=1 max_digits=2
    python -m experiments.run task=reasoning_gym task.training_set=sums task.folder=questions task.checker=numeric ...

It writes <name>-train.jsonl, which holds the validation part, too, and <name>-test.jsonl, always the same ones. The
generators give answers and no way to them, so the solution that SFT learns from is the answer in a sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import yaml

from experiments.command import leave, run_command
from tinylora.records.writable import require_writable
from tinylora.settings.choices import Split
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.config import TaskConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.files import write_atomically
from tinylora.settings.paths import absolute
from tinylora.tasks.generated import NAME, PATIENCE, GeneratedTask
from tinylora.tasks.problem import Problem
from tinylora.tasks.reading import question_line

BATCH = 50  # questions that are asked for at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files and say what is in them, or survey a model; the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["survey"]:
        from experiments.survey import survey

        return survey(words[1:])
    parser = CommandParser(
        prog="python -m experiments.questions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="where the files go")
    parser.add_argument("name", help="what the questions are to be called")
    parser.add_argument("generator", help="of reasoning-gym")
    parser.add_argument("options", nargs="*", metavar="option=value", help="settings of the generator")
    parser.add_argument("--train", type=int, default=4000, help="most questions to train on (%(default)s)")
    parser.add_argument("--held-out", type=int, default=512, help="most of validation, and of the test (%(default)s)")
    given = parser.parse_args(words)
    return run_command(lambda: _write(given))


def _write(given: argparse.Namespace) -> None:
    task = GeneratedTask(TaskConfig(NAME, generator=given.generator, generator_options=_options(given.options)))
    folder = absolute(given.folder, "folder")
    require_writable(folder, "folder")
    validation, test = (task.held_out(split, given.held_out) for split in (Split.validation, Split.test))
    parts = {"train": [*validation, *different(task, given.train)], "test": test}
    for part, problems in parts.items():
        path = folder / f"{given.name}-{part}.jsonl"
        write_atomically(path, "".join(map(question_line, problems)).encode())
        print(f"{path}: {len(problems)} questions")


def different(task: GeneratedTask, count: int) -> list[Problem]:
    """`count` different problems to train on; all that are found, where there are fewer."""
    drawn: dict[str, Problem] = {}
    step = newest = 0
    while len(drawn) < count and step - newest < PATIENCE:
        step += 1
        for problem in task.batch(0, step, BATCH):
            if problem.question not in drawn and len(drawn) < count:
                drawn[problem.question], newest = problem, step
    return list(drawn.values())


def _options(words: Sequence[str]) -> dict[str, object]:
    options: dict[str, object] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise UsageError(word, "options of the generator are given as name=value", f"give {word}=<value>")
        try:
            options[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UsageError(word, "values are written as in YAML: 3, 0.5, true, [1, 2]", f"correct {name}") from error
    return options


if __name__ == "__main__":
    leave(main)
