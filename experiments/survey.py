"""How a model does on tasks before any training: which of them reinforcement learning could teach it.

    python -m experiments.questions survey model=smollm2-135m task=reasoning_gym task.generator=chain_sum,gcd,lcm
    python -m experiments.questions survey model.path=qwen.gguf task=gsm8k rollout.max_new_tokens=256,400 --out q.jsonl
    python -m experiments.questions survey model=smollm2-135m task=gsm8k --split train --problems 2000 --out s.jsonl \\
        --keep questions/easy-gsm8k --between 1 3

GRPO learns from problems that the model solves now and then: of a group with equal rewards there is no gradient. So
`mixed`, the share of problems with right and wrong samples, should not be small, and few answers may be cut. Problems
are those of the validation part unless --split says otherwise, never of the test.

With --out each batch of answers is a line of that file; the same command then goes on where it was, and with more
problems. --keep writes the training problems of which so many samples were right as a question set, with validation and
test problems of the task, unselected, beside them. How to train on it is said at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.command import run_command
from experiments.compose.points import compose
from experiments.display import counted, open_progress, plain_table
from tinylora import answers
from tinylora.models.find import digest as model_digest
from tinylora.models.find import resolve_folder, tokenizer_digest
from tinylora.records.writable import require_writable
from tinylora.settings.choices import Split
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.config import RunConfig, flatten
from tinylora.settings.errors import require
from tinylora.settings.files import write_atomically
from tinylora.settings.identity import digest, hashed_settings
from tinylora.settings.paths import absolute
from tinylora.tasks import task_of
from tinylora.tasks.problem import Problem
from tinylora.tasks.question_sets import HELD_FOR_VALIDATION
from tinylora.tasks.reading import question_line

BATCH = 64  # problems that are answered at once, and recorded
HELD_OUT = 512  # most problems for validation, and for the test, of what is kept
MORE = "give --samples 4 --between 1 3, for example"
GROUPS = ("model", "task", "rollout")  # settings that answers depend on
HEADINGS = ("problems", "strict", "flexible", "greedy", "pass", "mixed", "cut", "tokens", "seconds")
FIELDS = {"key", "problems", "samples", "strict", "flexible", "greedy", "tokens", "truncated", "seconds"}
Line = dict[str, Any]
"""What `train.survey.Tried` has, and a key over what it depends on."""


def survey(arguments: Sequence[str]) -> int:
    """Survey what the command line names, and print the table; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.questions survey",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="+", metavar="setting=value", help="as for experiments.run; lists are swept")
    parser.add_argument("--problems", type=int, default=64, help="of each task (%(default)s)")
    parser.add_argument("--samples", type=int, default=4, help="of each problem (%(default)s)")
    parser.add_argument("--split", choices=("train", "validation"), default="validation", help="(%(default)s)")
    parser.add_argument("--out", metavar="FILE", help="record answers in it, and go on from what it has")
    parser.add_argument("--keep", metavar="FOLDER/NAME", help="write the problems that are right now and then")
    parser.add_argument("--between", nargs=2, type=int, metavar=("LEAST", "MOST"), help="right samples of these")
    given = parser.parse_intermixed_args(arguments)
    interrupted = "interrupted; " + ("the same command resumes" if given.out else "with --out <file> it would go on")
    return run_command(lambda: _survey(given), interrupted)


def _survey(given: argparse.Namespace) -> None:
    _require_sensible(given)
    out = None if given.out is None else absolute(given.out, "--out")
    keep = None if given.keep is None else absolute(given.keep, "--keep")
    require(
        out is None or not out.is_dir(), f"--out {out}", "answers go into a file, and this is a folder", "name a file"
    )
    for name, path in (("--out", out), ("--keep", keep)):
        if path is not None:
            require_writable(path.parent, f"the folder of {name}")
    points = compose(["adapter=none", f"eval.samples={given.samples}", *given.settings]).points
    one = "problems are kept that one model finds neither easy nor hard"
    require(keep is None or len(points) == 1, f"--keep with a sweep of {len(points)}", one, "give --keep without lists")
    names, rows = _varying(points), []
    if keep is not None:
        _require_conversation(points[0])
    for point in points:
        problems, lines = _answered(point, given, out)
        values = flatten(hashed_settings(point))
        rows.append((*(str(values.get(name, "")) for name in names), *_row(lines)))
    print("\n".join(plain_table([(*names, *HEADINGS), *rows], numbers=len(HEADINGS))))
    if keep is not None:
        least, most = given.between or (1, given.samples - 1)
        counts = [count for line in lines for count in line["strict"]]
        kept = [problem for problem, count in zip(problems, counts, strict=True) if least <= count <= most]
        print(f"{counted(len(kept), 'problem')} of which {least} to {most} of {given.samples} samples were right")
        _keep(points[0], kept, keep)


def _require_sensible(given: argparse.Namespace) -> None:
    """Raise UsageError for the first option that makes no sense."""
    for name in ("problems", "samples"):
        require(getattr(given, name) > 0, f"--{name} {getattr(given, name)}", "it counts things", f"give --{name} 8")
    evaluated = [word for word in given.settings if word.lstrip("+").startswith("eval.")]
    require(
        not evaluated,
        " ".join(evaluated),
        "a survey asks --problems problems, --samples times each, and heeds no setting of the evaluation",
        "leave it out",
    )
    if given.keep is None:
        require(given.between is None, "--between", "it says what --keep keeps", "leave it out, or give --keep too")
        return
    require(given.keep.strip() != "", "--keep", "it names a question set", "give --keep <folder>/<name>")
    what, rule = f"--keep with --split {given.split}", "what is kept is trained on, and other problems judge it"
    require(given.split == Split.train.value, what, rule, "give --split train")
    require(given.samples > 1, f"--keep with --samples {given.samples}", "one sample is never right now and then", MORE)
    least, most = given.between or (1, given.samples - 1)
    what, rule = f"--between {least} {most} of --samples {given.samples}", "the fewest and the most right samples"
    require(0 <= least <= most <= given.samples, what, rule, MORE)


def _require_conversation(point: RunConfig) -> None:
    rule = "question sets are conversations, and the sums of the miniatures are none"
    require(task_of(point).chat, f"--keep with task={point.task.name}", rule, "give another task, or no --keep")


def _keep(point: RunConfig, kept: Sequence[Problem], keep: Path) -> None:
    """Write a question set: problems to train on, and the task's own ones for validation and test."""
    require(len(kept) > 0, f"--keep {keep}", "a question set has problems, and none was kept", "give more --problems")
    task = task_of(point)
    validation, test = (task.held_out(split, HELD_OUT) for split in (Split.validation, Split.test))
    marked = [replace(problem, id=f"{HELD_FOR_VALIDATION}{problem.id}") for problem in validation]
    for part, problems in (("train", [*kept, *marked]), ("test", test)):
        file = keep.with_name(f"{keep.name}-{part}.jsonl")
        write_atomically(file, "".join(map(question_line, problems)).encode())
        print(f"{file}: {counted(len(problems), 'problem')}")
    form = f"task.template={point.task.template.value} task.checker={point.task.checker.value}"
    print(f"train with: task=reasoning_gym task.training_set={keep.name} task.folder={keep.parent} {form}")


def _varying(points: Sequence[RunConfig]) -> list[str]:
    """The settings in which points differ; the task where they differ in none."""
    settings = [flatten(hashed_settings(point)) for point in points]
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({str(each.get(name)) for each in settings}) > 1] or ["task.name"]


def _answered(point: RunConfig, given: argparse.Namespace, out: Path | None) -> tuple[list[Problem], list[Line]]:
    """The problems of a point, and what its model says to them, a line for each batch: recorded, or found out now."""
    problems = task_of(point).held_out(Split(given.split), given.problems)
    require(bool(problems), f"task={point.task.name}", f"it has no {given.split} problems", "give another --split")
    known, pack, lines = {line["key"]: line for line in _recorded(out)}, None, []
    with open_progress() as progress:
        for first in range(0, len(problems), BATCH):
            batch = problems[first : first + BATCH]
            key = _key(point, batch, given.samples)
            if (line := known.get(key)) is None:
                from tinylora.train.pack import load_pack
                from tinylora.train.survey import try_problems

                pack = pack or load_pack([point], ["survey"], progress)
                name = f"{given.split}-{first + 1}"
                line = {"key": key, **asdict(try_problems(pack, name, batch, given.samples, progress))}
                _record(out, line)
            lines.append(line)
    return problems, lines


def _key(point: RunConfig, batch: Sequence[Problem], samples: int) -> str:
    """12 hex digits over what answers to some problems, and the verdicts on them, depend on."""
    folder = resolve_folder(point.model)
    files = model_digest(folder, remember=True), tokenizer_digest(folder, point.recipe, remember=True)
    settings = {name: group for name, group in hashed_settings(point).items() if name in GROUPS}
    asked = {"settings": settings, "samples": samples, "problems": list(map(repr, batch))}
    return digest(asked | {"files": files, "checker": answers.VERSION, "recipe": point.recipe})[:12]


def _recorded(out: Path | None) -> list[Line]:
    """The whole lines of a file, which may end in one that was cut."""
    if out is None or not out.exists():
        return []
    lines = []
    for text in out.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and line.keys() >= FIELDS:
                lines.append(line)
    return lines


def _record(out: Path | None, line: Line) -> None:
    if out is not None:
        with out.open("ab") as file:
            file.write(b"\n" * (file.tell() > 0) + json.dumps(line).encode())  # a line that was cut stays apart


def _row(lines: Sequence[Line]) -> tuple[str, ...]:
    """One row of the table: shares of samples, and of problems."""
    strict = [count for line in lines for count in line["strict"]]
    problems, samples = len(strict), lines[0]["samples"]
    total = {name: sum(line[name] for line in lines) / (problems * samples) for name in ("tokens", "truncated")}
    shares = (
        sum(strict) / (problems * samples),
        sum(sum(line["flexible"]) for line in lines) / (problems * samples),
        fmean(right for line in lines for right in line["greedy"]),
        fmean(count > 0 for count in strict),
        fmean(0 < count < samples for count in strict),
        total["truncated"],
    )
    seconds = sum(line["seconds"] for line in lines)
    return str(problems), *(f"{share:.3f}" for share in shares), f"{total['tokens']:.1f}", f"{seconds:.0f}"
