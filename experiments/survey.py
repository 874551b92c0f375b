"""How a model does on tasks before any training: which of them reinforcement learning could teach it.

    python -m experiments.questions survey model=smollm2-135m task=reasoning_gym task.generator=chain_sum,gcd,lcm
    python -m experiments.questions survey model.path=qwen.gguf task=gsm8k rollout.max_new_tokens=256,400 --out q.jsonl
    python -m experiments.questions survey model=smollm2-135m task=gsm8k --split train --problems 2000 --out s.jsonl \\
        --keep questions/easy-gsm8k --between 1 3

GRPO learns from problems that the model solves now and then: of a group with equal rewards there is no gradient. So
`mixed`, the share of problems with right and wrong samples, should not be small, and few answers may be cut. Problems
are those of the validation part unless --split says otherwise, never of the test.

With --out each batch of answers is a line of that file; the same command then goes on where it was, and with more
problems. --keep writes the problems of which so many samples were right as a question set that can be trained on:
<folder>/<name>-train.jsonl, for task.training_set=<name> task.folder=<folder>.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.command import run_command
from experiments.compose.points import compose
from experiments.display import counted, open_progress, plain_table
from tinylora.models.find import digest as model_digest
from tinylora.models.find import resolve_folder
from tinylora.records.folder import require_writable
from tinylora.settings.choices import Split
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.config import RunConfig, flatten
from tinylora.settings.errors import require
from tinylora.settings.files import write_atomically
from tinylora.settings.identity import digest, hashed_settings
from tinylora.settings.paths import absolute
from tinylora.tasks import task_of
from tinylora.tasks.problem import Problem
from tinylora.tasks.reading import question_line

BATCH = 64  # problems that are answered at once, and recorded
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
    return run_command(lambda: _survey(parser.parse_intermixed_args(arguments)))


def _survey(given: argparse.Namespace) -> None:
    least, most = _bounds(given)
    out, keep = (path and absolute(path, name) for path, name in ((given.out, "--out"), (given.keep, "--keep")))
    for path in filter(None, (out, keep)):
        require_writable(path.parent)
    points = compose(["adapter=none", f"eval.samples={given.samples}", *given.settings]).points
    names, rows = _varying(points), []
    kept: dict[str, Problem] = {}
    for point in points:
        problems, lines = _answered(point, given, out)
        values = flatten(hashed_settings(point))
        rows.append((*(str(values.get(name, "")) for name in names), *_row(lines)))
        counts = [count for line in lines for count in line["strict"]]
        kept |= {p.question: p for p, count in zip(problems, counts, strict=True) if least <= count <= most}
    print("\n".join(plain_table([(*names, *HEADINGS), *rows], numbers=len(HEADINGS))))
    if keep is not None:
        file = keep.with_name(f"{keep.name}-train.jsonl")
        write_atomically(file, "".join(map(question_line, kept.values())).encode())
        print(
            f"{file}: {counted(len(kept), 'problem')} of which {least} to {most} of {given.samples} samples were right"
        )


def _bounds(given: argparse.Namespace) -> tuple[int, int]:
    """How many samples of a problem that is kept are right, at least and at most. Raises UsageError."""
    for name in ("problems", "samples"):
        require(getattr(given, name) > 0, f"--{name} {getattr(given, name)}", "it counts things", f"give --{name} 8")
    least, most = given.between or (1, given.samples - 1)
    require(
        given.keep is None or 0 <= least <= most <= given.samples,
        f"--between {least} {most} of --samples {given.samples}",
        "these are the fewest and the most of a problem's samples that are right",
        "give --samples 4 --between 1 3, for example",
    )
    return least, most


def _varying(points: Sequence[RunConfig]) -> list[str]:
    """The settings in which points differ; the task where they differ in none."""
    settings = [flatten(hashed_settings(point)) for point in points]
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({str(each.get(name)) for each in settings}) > 1] or ["task.name"]


def _answered(point: RunConfig, given: argparse.Namespace, out: Path | None) -> tuple[list[Problem], list[Line]]:
    """The problems of a point, and what its model says to them, a line for each batch: recorded, or found out now."""
    problems = task_of(point).held_out(Split(given.split), given.problems)
    require(bool(problems), f"task={point.task.name}", f"it has no {given.split} problems", "give another --split")
    key, pack, lines = _key(point, given), None, []
    known = {(line["key"], *line["problems"]): line for line in _recorded(out)}
    with open_progress() as progress:
        for first in range(0, len(problems), BATCH):
            batch = problems[first : first + BATCH]
            line = known.get((key, *(problem.id for problem in batch)))
            if line is None:
                from tinylora.train.pack import load_pack
                from tinylora.train.survey import try_problems

                pack = pack or load_pack([point], ["survey"], progress)
                name = f"{given.split}-{first + 1}"
                line = {"key": key, **asdict(try_problems(pack, name, batch, given.samples, progress))}
                _record(out, line)
            lines.append(line)
    return problems, lines


def _key(point: RunConfig, given: argparse.Namespace) -> str:
    """12 hex digits over what answers depend on, beside the problems."""
    settings = {name: group for name, group in hashed_settings(point).items() if name in GROUPS}
    asked = {"settings": settings, "split": given.split, "samples": given.samples}
    return digest(asked | {"model": model_digest(resolve_folder(point.model), remember=True)})[:12]


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
