"""Samples in a run folder: what is written is read, within a limit, and what does not fit the metrics is damage."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support.records import append_samples, make_folder, make_samples

from tinylora.records.damage import damage_of
from tinylora.records.folder import METRICS, RunFolder, Status
from tinylora.records.samples import (
    BEST,
    FIRST_OR_LAST,
    GROUPS_UP_TO,
    LIMIT,
    LINES,
    MOST_TIMES,
    SAMPLES,
    TRAINING,
    Sample,
    SampleFile,
    flips_of,
    parse_members,
    read_samples,
    table_of,
)
from tinylora.settings.errors import UsageError

STEPS = 3


def make_run(outputs: Path, status: Status | None = Status.finished) -> RunFolder:
    """A run that was evaluated before every step and after the last."""
    folder = make_folder(outputs, (), None, steps=STEPS)
    for step in range(STEPS + 1):
        append_samples(folder, step, make_samples(step))
    if status is not None:
        folder.conclude(status, None, {})
    return folder


def noise(seed: int, length: int) -> str:
    """Text that cannot be compressed below six bits a character."""
    return "".join(
        random.Random(seed).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=", k=length)
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    found, wrong = read_samples(folder.path / SAMPLES)
    assert wrong is None and damage_of(folder) is None
    assert found == [sample for step in range(STEPS + 1) for sample in make_samples(step)]
    assert [line.metrics[LINES] for line in folder.lines()] == [4, 8, 12, 16]
    lines = gzip.decompress((folder.path / SAMPLES).read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == [asdict(sample) for sample in found], "any program reads it"


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (make_run(tmp_path / name) for name in "ab")
    assert (one.path / SAMPLES).read_bytes() == (other.path / SAMPLES).read_bytes()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="earlier versions recorded none"):
        read_samples(tmp_path / SAMPLES)


def test_flips_are_between_the_first_evaluation_and_the_last(tmp_path: Path) -> None:
    samples = [sample for step in (0, 1, 2) for sample in make_samples(step)]
    group = [replace(sample, kind=BEST, suite=TRAINING, step=9) for sample in make_samples(1)]
    flips = flips_of([*samples, *group])
    assert list(flips) == [("test", "sums/0", "greedy"), ("test", "sums/1", "greedy")]
    assert all((before.step, after.step) == (0, 2) and after.right for before, after in flips.values())
    assert flips_of(make_samples(0)) == flips_of([]) == {}


def test_groups_are_recorded_up_to_a_half_and_the_last_evaluation_always(tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    writer, counts, steps = SampleFile(tmp_path / "run", fsync=False), [], 200
    for step in range(steps + 1):
        group = [replace(each, kind=BEST, suite=TRAINING) for each in make_samples(step, text=noise(step, 4000))]
        evaluated = make_samples(step, problems=4, text=noise(-step - 1, 9000)) if step % 2 == 0 else []
        counts.append(writer.append(group if step else [], evaluated, step in (0, steps), durable=False)[LINES])
    path = tmp_path / "run" / SAMPLES
    found, wrong = read_samples(path)
    assert wrong is None and path.stat().st_size <= LIMIT
    assert counts[-1] == len(found) and counts == sorted(counts)
    of_training = [sample.step for sample in found if sample.suite == TRAINING]
    evaluated_at = sorted({sample.step for sample in found if sample.suite != TRAINING})
    members = parse_members(path.read_bytes())[0]
    last_group = max(member.end for member in members if member.samples[0].suite == TRAINING)
    assert GROUPS_UP_TO * 0.9 < last_group <= GROUPS_UP_TO
    assert max(of_training) < steps // 2 and evaluated_at[0] == 0 and evaluated_at[-1] == steps
    assert max(of_training) < evaluated_at[-2] < steps - 2, "evaluations go on, up to three quarters"
    assert all(sample.cut == 0 for sample in found)


def test_very_long_texts_are_cut_in_their_middle_where_there_is_no_room(tmp_path: Path) -> None:
    writer = SampleFile(tmp_path, fsync=False)
    long = make_samples(0, problems=16, text=noise(1, 100_000))
    for step in (0, 1):
        writer.append([], [replace(sample, step=step) for sample in long], edge=True, durable=False)
    found, wrong = read_samples(tmp_path / SAMPLES)
    assert wrong is None and len(found) == 2 * len(long)
    assert (tmp_path / SAMPLES).stat().st_size <= 2 * FIRST_OR_LAST
    for sample, whole in zip(found, [*long, *long], strict=True):
        kept = sample.completion.split(" [...] ")
        assert whole.completion.startswith(kept[0]) and whole.completion.endswith(kept[1])
        assert len(kept[0]) + len(kept[1]) + sample.cut == len(whole.completion) and sample.cut > 0
        assert sample.problem == whole.problem and sample.gold == whole.gold


def test_no_file_holds_more_than_a_reader_expects(tmp_path: Path) -> None:
    SampleFile(tmp_path, fsync=False).append([], make_samples(0, text="0" * 500_000), edge=True, durable=False)
    packed = (tmp_path / SAMPLES).read_bytes()
    assert len(gzip.decompress(packed)) <= MOST_TIMES * len(packed)
    assert [len(sample.completion) for sample in read_samples(tmp_path / SAMPLES)[0]] == [500_001] * 4
    members, wrong = parse_members(gzip.compress(b" " * 2**24))
    assert members == [] and "more than 64 times its size" in (wrong or "")


def resumed(folder: RunFolder, step: int) -> SampleFile:
    folder.drop_after(step)
    writer = SampleFile(folder.path, fsync=True)
    writer.resume(folder.lines())
    return writer


@pytest.mark.parametrize("torn", [b"", b"\x1f\x8b\x08", b"nonsense"])
def test_samples_of_steps_that_are_made_again_are_dropped(torn: bytes, tmp_path: Path) -> None:
    folder, whole = make_run(tmp_path / "a", None), make_run(tmp_path / "b", None)
    with (folder.path / SAMPLES).open("ab") as file:
        file.write(torn)
    writer = resumed(folder, 1)
    assert [sample.step for sample in read_samples(folder.path / SAMPLES)[0]] == [0] * 4 + [1] * 4
    for step in (2, 3):
        counted = writer.append([], make_samples(step), edge=step == STEPS, durable=True)
        folder.append(step, {"train/loss": 0.5} | counted)
    assert (folder.path / SAMPLES).read_bytes() == (whole.path / SAMPLES).read_bytes()
    assert [line.metrics for line in folder.lines()] == [line.metrics for line in whole.lines()]
    resumed(folder, -1)
    assert (folder.path / SAMPLES).read_bytes() == b""


def test_a_file_that_was_removed_is_not_begun_anew(tmp_path: Path) -> None:
    folder = make_run(tmp_path, None)
    (folder.path / SAMPLES).unlink()
    assert resumed(folder, 1).append([], make_samples(2), edge=False, durable=True) == {}
    assert not (folder.path / SAMPLES).exists()


def test_a_run_that_an_earlier_version_began_has_samples_from_then_on(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, (0.1, 0.2), None, steps=2)
    append_samples(folder, 2, make_samples(2))
    folder.conclude(Status.finished, None, {})
    assert damage_of(folder) is None and [line.metrics.get(LINES) for line in folder.lines()] == [None, None, 4]


def rewritten(change: Callable[[list[Sample]], list[dict[str, object]]]) -> Callable[[bytes], bytes]:
    """The first part of a file with other records."""

    def apply(content: bytes) -> bytes:
        first = parse_members(content)[0][0]
        records = change(first.samples)
        return gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()) + content[first.end :]

    return apply


def with_field(name: str, value: object) -> Callable[[bytes], bytes]:
    return rewritten(lambda samples: [asdict(sample) | {name: value} for sample in samples])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda content: b"",
    "a part less": lambda content: content[: parse_members(content)[0][-2].end],
    "the first part is missing": lambda content: content[parse_members(content)[0][0].end :],
    "a part twice": lambda content: content + content[parse_members(content)[0][-2].end :],
    "the end is cut": lambda content: content[:-1],
    "a flipped bit": lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "more behind the end": lambda content: content + b"\0",
    "parts in another order": lambda content: (lambda at: content[at:] + content[:at])(
        parse_members(content)[0][0].end
    ),
    "a record less": rewritten(lambda samples: [asdict(sample) for sample in samples[1:]]),
    "an empty part": rewritten(lambda samples: []),
    "another step": with_field("step", 1),
    "a negative step": with_field("step", -1),
    "another kind": with_field("kind", "middling"),
    "another outcome": with_field("strict", "right"),
    "a number for a text": with_field("completion", 3),
    "a switch for a number": with_field("tokens", True),
    "a field more": with_field("more", 1),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_run_that_has_ended_is_damaged_where_its_samples_are_not_those_that_were_counted(
    name: str, tmp_path: Path
) -> None:
    folder = make_run(tmp_path)
    path = folder.path / SAMPLES
    path.write_bytes(DAMAGES[name](path.read_bytes()))
    assert f"{SAMPLES} is damaged" in (damage_of(folder) or "")
    assert "without this file the run is whole" in (damage_of(folder) or "")
    path.unlink()
    assert damage_of(folder) is None


def test_a_count_that_is_wrong_is_damage(tmp_path: Path) -> None:
    folder = make_run(tmp_path, None)
    path = folder.path / METRICS
    path.write_text(path.read_text().replace(f'"{LINES}": 12', f'"{LINES}": 11'))
    folder.conclude(Status.finished, None, {})
    assert "12 samples up to step 2, and not 11" in (damage_of(folder) or "")


def test_the_table_has_evaluations_alone() -> None:
    group = [replace(sample, kind=BEST, suite=TRAINING) for sample in make_samples(1)]
    table = json.loads(table_of([*make_samples(0), *group]))
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == [
        asdict(sample) for sample in make_samples(0)
    ]
