"""What the model has said: samples.jsonl.gz, a record for each completion that is kept, in the order of the steps.

    {"step": 0, "kind": "greedy", "suite": "test", "problem": "sums/1+2=", "prompt": "1+2=", "completion": "#3", ...}

The same problems are kept at every evaluation, and the best and the worst completion of a group now and then (which
ones: `train.samples`). What is written at once is one member of the gzip file, of one step: a kill costs no member that
was whole, and a resumed run cuts the file between two of them. The metric `samples/lines` says how many records there
are up to a step; records and metrics must agree. A run without the file is whole, too: earlier versions wrote none, and
whoever needs the room may remove it. It is then not begun anew.

The file has at most `LIMIT` bytes. Groups are recorded as long as it is at most half full with them, evaluations as
long as it is at most three quarters full. The first and the last evaluation are always recorded, and take a quarter at
most: so there is room for both. Should one need more, the middle of its longest texts is cut, which `cut` counts.
"""

from __future__ import annotations

import json
import os
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tinylora.records.measured import MetricLine
from tinylora.records.reading import UNREADABLE, why_unreadable
from tinylora.settings.errors import UsageError
from tinylora.settings.files import write_atomically
from tinylora.settings.given_files import json_of

SAMPLES = "samples.jsonl.gz"
LINES = "samples/lines"
"""The metric that says how many records there are up to a step."""
LIMIT = 2**20  # bytes of a file
GROUPS_UP_TO, BETWEEN_UP_TO, FIRST_OR_LAST = LIMIT // 2, LIMIT * 3 // 4, LIMIT // 4
MOST_TIMES = 64  # its own size: what a member may hold
LONGEST = 2**15  # characters of a text, where texts must be cut at all
PIECE = 4096  # bytes that are decompressed at once
KINDS = GREEDY, SAMPLE, BEST, WORST = "greedy", "sample", "best", "worst"
EVALUATED = (GREEDY, SAMPLE)
OUTCOMES = ("correct", "wrong", "no_answer", "timeout", "checker_error")
TRAINING = "train"
"""The suite of training groups."""
TEXTS = ("problem", "prompt", "completion", "answer", "gold")


@dataclass(frozen=True)
class Sample:
    """One completion, and what was made of it."""

    step: int
    kind: str
    """`greedy` or `sample` of an evaluation, `best` or `worst` of a training group."""
    suite: str
    problem: str
    """Its id."""
    prompt: str
    """The text that the model continues, or the user's message of a conversation."""
    completion: str
    answer: str | None
    """What was read as its answer: in the asked-for form, or else wherever it stands; None where there is none."""
    gold: str
    strict: str
    flexible: str
    reward: float
    tokens: int
    """Of the completion, the end token included."""
    logp_mean: float | None
    """Of its tokens under the sampler, in nats."""
    logp_least: float | None
    cut: int = 0
    """Characters that are left out of its texts."""

    @property
    def right(self) -> bool:
        """Whether it is strictly right."""
        return self.strict == OUTCOMES[0]

    def shortened(self, longest: int) -> Sample:
        """The same with the middle of each text left out that has more characters than `longest`."""
        texts: dict[str, str | None] = {name: getattr(self, name) for name in TEXTS}
        long = {name: text for name, text in texts.items() if text is not None and len(text) > longest}
        ends = longest // 2
        kept = {name: f"{text[:ends]} [...] {text[len(text) - ends :]}" for name, text in long.items()}
        cut = sum(len(text) - 2 * ends for text in long.values())
        return Sample(**asdict(self) | kept | {"cut": cut})


FIELDS = {field.name: str(field.type) for field in fields(Sample)}
TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
}


Place = tuple[str, str, str]


@dataclass(frozen=True)
class Member:
    """What was written at once, of one step."""

    end: int
    """Bytes of the file up to its end."""
    samples: list[Sample]


class SampleFile:
    """Adds to the samples of one run."""

    def __init__(self, folder: Path, fsync: bool) -> None:
        self.path, self.fsync = folder / SAMPLES, fsync
        self._lines, self._size, self._unsynced = 0, 0, False
        self._given_up = False

    def resume(self, lines: Sequence[MetricLine]) -> None:
        """Drop what is of later steps than these lines, which are made again. A file that was removed stays away."""
        last = lines[-1] if lines else None
        members = read_members(self.path)[0] if self.path.exists() else []
        kept = [member for member in members if last is not None and member.samples[0].step <= last.step]
        self._lines = sum(len(member.samples) for member in kept)
        self._size = kept[-1].end if kept else 0
        if not self.path.exists():
            self._given_up = last is not None and last.metrics.get(LINES, 0) > 0
        elif self.path.stat().st_size != self._size:
            write_atomically(self.path, self.path.read_bytes()[: self._size], self.fsync)

    def append(self, group: Sequence[Sample], evaluated: Sequence[Sample], edge: bool, durable: bool) -> dict[str, int]:
        """Add what there is room for of a step, whose metric it returns; on the disk if `durable`, with all before.

        `edge`: the evaluation is the first or the last one.
        """
        if self._given_up:
            return {}
        new = b""
        for samples, up_to, must in ((group, GROUPS_UP_TO, False), (evaluated, BETWEEN_UP_TO, edge)):
            member = _member_of(samples, FIRST_OR_LAST) if samples else b""
            if member and (must or self._size + len(new) + len(member) <= up_to):
                new += member
                self._lines += len(samples)
        if new or (durable and self._unsynced):
            self._write(new, durable and self.fsync)
        return {LINES: self._lines}

    def _write(self, new: bytes, sync: bool) -> None:
        with self.path.open("ab") as file:
            file.write(new)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        self._size, self._unsynced = self._size + len(new), not sync


def _member_of(samples: Sequence[Sample], most: int) -> bytes:
    """A member of at most `most` bytes, for which long texts are cut if need be."""
    member, longest = _compressed(samples), LONGEST
    while len(member) > most and longest:
        member = _compressed([sample.shortened(longest) for sample in samples])
        longest //= 2
    return member


def _compressed(samples: Sequence[Sample]) -> bytes:
    """A gzip member without a time, so that the same records give the same bytes.

    It holds at most MOST_TIMES its own size, so that whoever reads it need not take more than that: what repeats itself
    more often is written with codes for single bytes alone.
    """
    text = "".join(json.dumps(asdict(sample)) + "\n" for sample in samples).encode()
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        packer = zlib.compressobj(wbits=31, strategy=strategy)
        member = packer.compress(text) + packer.flush()
        if len(text) <= MOST_TIMES * len(member):
            break
    return member


def read_samples(path: Path) -> tuple[list[Sample], str | None]:
    """The records of a run's file up to what is not whole, and what is wrong there. UsageError where there is none."""
    if not path.exists():
        raise UsageError(
            f"{path}: no such file",
            "completions are recorded from the end of a run's first evaluation on; earlier versions recorded none",
            "give the command that began the run, which goes on; train one of an earlier version anew elsewhere",
        )
    members, wrong = read_members(path)
    return [sample for member in members for sample in member.samples], wrong


def ends_of(samples: Iterable[Sample]) -> tuple[int, int] | None:
    """The steps of the first and the last evaluation of a run; None where there is none."""
    steps = [sample.step for sample in samples if sample.kind in EVALUATED]
    return (min(steps), max(steps)) if steps else None


def place_of(sample: Sample) -> Place:
    """What is the same in all evaluations: suite, problem, kind."""
    return sample.suite, sample.problem, sample.kind


def flip_of(before: Sample, after: Sample) -> str | None:
    """How the strict verdict has changed; None where it has not."""
    if before.right == after.right:
        return None
    return "wrong -> right" if after.right else "right -> wrong"


def flips_of(samples: Sequence[Sample]) -> dict[Place, tuple[Sample, Sample]]:
    """What was right and is wrong now, or the other way round, in the first and in the last evaluation of a run."""
    first, last = (
        {place_of(sample): sample for sample in samples if sample.step == step and sample.kind in EVALUATED}
        for step in ends_of(samples) or (-1, -1)
    )
    both = {place: (first[place], after) for place, after in last.items() if place in first}
    return {place: pair for place, pair in both.items() if flip_of(*pair)}


def read_members(path: Path) -> tuple[list[Member], str | None]:
    """The members of a file up to the first that is not whole, and what is wrong there."""
    try:
        return parse_members(path.read_bytes())
    except UNREADABLE as error:
        return [], why_unreadable(error)


def parse_members(content: bytes) -> tuple[list[Member], str | None]:
    """The members that a file's content begins with, and what is wrong behind them; None where they are all of it."""
    members: list[Member] = []
    while (start := members[-1].end if members else 0) < len(content):
        try:
            text, end = _decompressed(content, start)
            samples = [parse_sample(json_of(line)) for line in text.splitlines()]
            steps = {sample.step for sample in samples}
            if len(steps) != 1 or (members and members[-1].samples[0].step > min(steps)):
                raise ValueError("its steps are not in order")
        except (ValueError, zlib.error) as error:
            return members, f"part {len(members) + 1}: {error}"
        members.append(Member(end, samples))
    return members, None


def _decompressed(content: bytes, start: int) -> tuple[bytes, int]:
    """What the member at `start` holds, and where it ends. ValueError or zlib.error where it is not whole."""
    unpacker, text, at = zlib.decompressobj(wbits=31), bytearray(), start
    while not unpacker.eof:
        if at >= len(content):
            raise ValueError("it is cut")
        text += unpacker.decompress(content[at : at + PIECE])
        at = min(at + PIECE, len(content))
        if len(text) > MOST_TIMES * (at - start):
            raise ValueError(f"it holds more than {MOST_TIMES} times its size")
    return bytes(text), at - len(unpacker.unused_data)


def parse_sample(plain: Any) -> Sample:
    """A record. ValueError says what is wrong with it."""
    if not isinstance(plain, dict) or plain.keys() != FIELDS.keys():
        raise ValueError(f"it has other fields than {', '.join(FIELDS)}")
    for name, kind in FIELDS.items():
        if isinstance(plain[name], bool) or not isinstance(plain[name], TYPES[kind]):
            raise ValueError(f"its {name} is {str(plain[name])[:40]!r}")
    sample = Sample(**plain)
    if sample.kind not in KINDS or sample.step < 0 or not {sample.strict, sample.flexible} <= set(OUTCOMES):
        raise ValueError("it is of no kind, step or outcome that there is")
    return sample


def lines_with_samples(folder: Path, lines: Sequence[MetricLine]) -> tuple[int, str | None]:
    """How many of the metric lines of a run folder, from the first on, have all their samples; and what is wrong.

    All have where there is no file. None is wrong where there are as many as there should be.
    """
    if not (folder / SAMPLES).exists():
        return len(lines), None
    members, wrong = parse_members((folder / SAMPLES).read_bytes())
    steps = [sample.step for member in members for sample in member.samples]
    for place, line in enumerate(lines):
        held = bisect_right(steps, line.step)
        if (said := line.metrics.get(LINES)) is not None and said != held:
            return place, wrong or f"it has {held} samples up to step {line.step}, and not {said}"
    last = lines[-1].step if lines else -1
    if wrong is None and steps and steps[-1] > last:
        wrong = f"it has samples of step {steps[-1]}, which was not made"
    return len(lines), wrong


def table_of(samples: Sequence[Sample]) -> str:
    """The records of evaluations as a table that MLflow shows (JSON, as its `log_table` writes it)."""
    shown = [asdict(sample) for sample in samples if sample.kind in EVALUATED]
    return json.dumps({"columns": list(FIELDS), "data": [list(record.values()) for record in shown]})
