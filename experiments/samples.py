"""What the model says: completions that were recorded while runs were trained.

    python -m experiments.samples outputs/0123456789ab              one run, by its folder
    python -m experiments.samples 0123 --step last --outcome wrong  by its key, or the beginning of it
    python -m experiments.samples outputs --lane u=13 --flips       of a sweep, by outputs_dir or id
    python -m experiments.samples outputs --json                    for tools: one JSON object a line

At every evaluation the same problems are recorded, so an answer can have flipped from the first evaluation to the last:
from wrong to right (strictly), or from right to wrong. Flips are marked, and `--flips` shows nothing else, before and
after together. Prompts that are long are cut on the screen, never in JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.command import add_outputs_dir, leave, run_command
from experiments.display import counted, page, visible
from experiments.naming import find_runs, labelled, listed
from tinylora.records.samples import (
    EVALUATED,
    KINDS,
    OUTCOMES,
    SAMPLES,
    Sample,
    ends_of,
    flip_of,
    flips_of,
    place_of,
    read_samples,
)
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import TinyLoraError, UsageError

FIRST, LAST = "first", "last"
LONGEST_PROMPT = 400  # characters that are shown


@dataclass(frozen=True)
class Run:
    """The samples of a run."""

    key: str
    label: str
    samples: list[Sample]


def main(arguments: Sequence[str] | None = None) -> int:
    """Show what was asked for; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.samples",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", help="folder or key of a run; outputs_dir, folder or id of a sweep")
    parser.add_argument("--flips", action="store_true", help="answers that are right at one end of training alone")
    parser.add_argument("--step", help=f"number of a step, or {FIRST} or {LAST}: of an evaluation")
    parser.add_argument("--outcome", help=f"by the strict rule: {', '.join(OUTCOMES)}")
    parser.add_argument("--kind", help=", ".join(KINDS))
    parser.add_argument("--lane", help="of several runs: words of the label (u=13), or the beginning of a key")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, nothing cut")
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options), interrupted="")


def _show(options: argparse.Namespace) -> int:
    _require_words(options)
    runs, unread = _read(_of_lane(find_runs(options.runs, options.outputs_dir), options.lane))
    _require_step(options.step, runs)
    if options.json:
        for run in runs:
            for record in _records(run, options):
                print(json.dumps({"run": run.key, "label": run.label, **record}))
    else:
        page([line for run in runs for line in _lines(run, options)])
    return 1 if unread else 0


def _require_words(options: argparse.Namespace) -> None:
    """Raise UsageError for options that mean nothing, alone or together."""
    for name, known in (("outcome", OUTCOMES), ("kind", KINDS)):
        if (given := getattr(options, name)) is not None and given not in known:
            raise UsageError(f"--{name} {given}", f"there is no such {name}", f"give one of: {', '.join(known)}")
    if options.step is not None and options.step not in (FIRST, LAST) and not options.step.isdecimal():
        raise UsageError(
            f"--step {options.step}",
            f"samples are of a step, which is a number from 0; {FIRST} and {LAST} are those of an evaluation",
            f"give --step 0, or {FIRST} or {LAST}",
        )
    if options.flips and options.step is not None:
        raise UsageError(
            f"--flips --step {options.step}",
            "a flip is between the first evaluation and the last, so both are shown",
            "leave one of the two options out",
        )
    if options.flips and options.kind not in (None, *EVALUATED):
        raise UsageError(
            f"--flips --kind {options.kind}",
            "only evaluations ask the same problem twice",
            f"give --kind {' or '.join(EVALUATED)}, or leave it out",
        )


def _of_lane(folders: Sequence[Path], lane: str | None) -> list[tuple[str, Path]]:
    """Those whose label has all words of `lane`, or whose key begins with it, each with its label."""
    found = [(name, config.folder) for name, config in labelled(folders, "not shown")]
    if lane is None:
        return found
    chosen = [each for each in found if set(lane.split()) <= set(each[0].split()) or each[1].name.startswith(lane)]
    if not chosen:
        names = listed(name for name, _ in found)
        raise UsageError(f"--lane {lane}", f"no run has these words in its label: {names}", "give some of them")
    return chosen


def _read(places: Sequence[tuple[str, Path]]) -> tuple[list[Run], bool]:
    """The samples of each run that has some, and whether some could not be read. UsageError where no run has any."""
    runs, unread = [], False
    missing: list[TinyLoraError] = []
    for label, folder in places:
        try:
            samples, wrong = read_samples(folder / SAMPLES)
        except UsageError as error:
            missing.append(error)
            continue
        runs.append(Run(folder.name, label, samples))
        if wrong is not None:
            unread = True
            print(f"{folder / SAMPLES} is read no further than its {wrong}", file=sys.stderr)
    if missing and not runs:
        raise missing[0]
    for without in missing:
        print(f"not shown: {without.given}", file=sys.stderr)
    return runs, unread


def _require_step(step: str | None, runs: Sequence[Run]) -> None:
    steps = {sample.step for run in runs for sample in run.samples}
    if step is not None and step.isdecimal() and int(step) not in steps:
        raise UsageError(
            f"--step {step}",
            f"samples are recorded at some steps, which are {listed(map(str, sorted(steps)))}",
            f"give one of these, or {FIRST} or {LAST}",
        )


def _chosen(run: Run, options: argparse.Namespace) -> list[tuple[Sample, str | None]]:
    """The samples of a run that were asked for, and how those of its first and last evaluation have flipped."""
    ends, flips = ends_of(run.samples) or (-1, -1), flips_of(run.samples)
    step = {None: None, FIRST: ends[0], LAST: ends[1]}.get(options.step, options.step)
    return [
        (sample, flip_of(*flips[place_of(sample)]) if place_of(sample) in flips and sample.step in ends else None)
        for sample in run.samples
        if (step is None or sample.step == int(step))
        and (options.step not in (FIRST, LAST) or sample.kind in EVALUATED)
        and options.kind in (None, sample.kind)
        and options.outcome in (None, sample.strict)
    ]


def _chosen_flips(run: Run, options: argparse.Namespace) -> list[tuple[Sample, Sample]]:
    """The flips that were asked for; an outcome is the one that an answer has now."""
    return [
        (before, after)
        for before, after in flips_of(run.samples).values()
        if options.kind in (None, after.kind) and options.outcome in (None, after.strict)
    ]


def _records(run: Run, options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """What is said of a run in JSON."""
    if not options.flips:
        yield from (asdict(sample) | {"flip": flip} for sample, flip in _chosen(run, options))
        return
    for before, after in _chosen_flips(run, options):
        place = {"suite": after.suite, "problem": after.problem, "kind": after.kind}
        yield place | {"flip": flip_of(before, after), "before": asdict(before), "after": asdict(after)}


def _lines(run: Run, options: argparse.Namespace) -> Iterable[str]:
    """What is said of a run on the screen."""
    ends = ends_of(run.samples)
    evaluated = "no evaluation" if ends is None else f"evaluations from step {ends[0]} to {ends[1]}"
    yield f"run {run.key}  {run.label}: {counted(len(run.samples), 'sample')}, {evaluated}"
    if not options.flips:
        chosen = _chosen(run, options)
        for sample, flip in chosen:
            yield ""
            yield f"{_title(sample)}{f'  [{flip}]' if flip else ''}"
            yield from (*_asked(sample), *_said(sample))
        yield from () if chosen else ("none of them is as was asked for",)
        return
    flips = _chosen_flips(run, options)
    for before, after in flips:
        yield ""
        yield f"{after.suite}  {after.kind}  {visible(after.problem)}  [{flip_of(before, after)}]"
        yield from _asked(after)
        for sample in (before, after):
            yield f"  step {sample.step}: {_verdict(sample)}"
            yield from _said(sample)
    yield from () if flips else ("none of them has flipped",)


def _title(sample: Sample) -> str:
    return f"step {sample.step}  {sample.suite}  {sample.kind}  {visible(sample.problem)}  {_verdict(sample)}"


def _verdict(sample: Sample) -> str:
    return sample.strict + (f" (flexibly {sample.flexible})" if sample.flexible != sample.strict else "")


def _asked(sample: Sample) -> list[str]:
    left = len(sample.prompt) - LONGEST_PROMPT
    prompt = sample.prompt[:LONGEST_PROMPT] + (f" [... {left:,} more characters]" if left > 0 else "")
    return _block("prompt", prompt)


def _said(sample: Sample) -> list[str]:
    answer = "none" if sample.answer is None else visible(sample.answer)
    logp = ""
    if sample.logp_mean is not None and sample.logp_least is not None:
        logp = f", log-probability of a token {sample.logp_mean:.2f}, the least {sample.logp_least:.2f}"
    cut = f", {sample.cut:,} characters are not recorded" if sample.cut else ""
    about = f"answer {answer}, gold {visible(sample.gold)}, {counted(sample.tokens, 'token')}{logp}{cut}"
    return [*_block("completion", sample.completion), f"    {about}"]


def _block(name: str, text: str) -> list[str]:
    """A text with its name in front, the lines below each other."""
    first, *others = text.split("\n")
    return [f"    {name:<11} {visible(first)}", *(f"{'':16}{visible(line)}" for line in others)]


if __name__ == "__main__":
    leave(main)
