"""What holds for any records: archives give back what went in, damaged ones nothing at all, batches lose no metric."""

from __future__ import annotations

import json
import lzma
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from support.records import make_folder

from tinylora.records import archive
from tinylora.records.folder import METRICS, MetricLine, Status
from tinylora.records.measured import parse_lines, parse_summary
from tinylora.records.mirrored import BATCH, FIRST_MARK, MARK, Other, batches, lines_held, marked
from tinylora.settings.errors import TinyLoraError

EXAMPLES = settings(max_examples=15, derandomize=True, deadline=None, database=None)
MANY = settings(EXAMPLES, max_examples=100)
NUMBERS = st.floats(allow_infinity=False, width=64)
VALUES = st.lists(NUMBERS, min_size=1, max_size=4)
RUNS = st.lists(st.tuples(VALUES, st.sampled_from([Status.finished, Status.failed])), min_size=1, max_size=3)


def files_of(outputs: Path) -> dict[str, bytes]:
    names = (*archive.FILES,)
    return {str(path.relative_to(outputs)): path.read_bytes() for path in outputs.rglob("*") if path.name in names}


@EXAMPLES
@given(RUNS, st.booleans())
def test_an_archive_gives_back_what_went_in(runs: list[tuple[list[float], Status]], compact: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, (values, status) in enumerate(runs):
            make_folder(folder / "a", values, status, seed=seed, steps=max(1, len(values) - 1))
        whole = [len(values) > 1 or status is Status.failed for values, status in runs]  # one step is trained at least
        if not any(whole):
            return
        done = archive.write(folder / "a", folder / "r", compact)
        assert (done.runs, len(done.left_out)) == (sum(whole), len(whole) - sum(whole))
        assert archive.restore(folder / "r", folder / "b").new == sum(whole)
        before, after = files_of(folder / "a"), files_of(folder / "b")
        for path, content in after.items():
            if path.endswith(METRICS) and compact:
                kept = [(line.step, line.time) for line in parse_lines(before[path])[0]]
                assert [(line.step, line.time) for line in parse_lines(content)[0]] == kept
            elif not path.endswith("config.yaml"):
                assert content == before[path]
        archive.write(folder / "b", folder / "again", compact)
        assert archive.read(folder / "again") == archive.read(folder / "r")


@MANY
@given(st.data())
def test_a_damaged_archive_is_refused_and_nothing_is_unpacked(data: st.DataObject) -> None:
    content = bytearray(ARCHIVE)
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused_whole(bytes(content))


@MANY
@given(st.data())
def test_a_damaged_content_of_an_archive_gives_all_of_it_or_nothing(data: st.DataObject) -> None:
    """The checksum of xz is right here: someone has made it so."""
    content = bytearray(lzma.decompress(ARCHIVE))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    refused_whole(lzma.compress(bytes(content), preset=0))


def refused_whole(content: bytes) -> None:
    """Unpacking gives all runs, or an error in three parts and no file at all."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "r").write_bytes(content)
        try:
            done = archive.restore(Path(name) / "r", Path(name) / "b")
        except TinyLoraError as error:
            assert error.given and error.rule and error.remedy
            assert not (Path(name) / "b").exists()
        else:
            assert done.new == 2 and len(list((Path(name) / "b").iterdir())) == 2


def _made_archive() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        for seed in (0, 1):
            make_folder(Path(name) / "a", (0.1, 0.2, float("nan")), seed=seed)
        archive.write(Path(name) / "a", Path(name) / "r")
        return (Path(name) / "r").read_bytes()


ARCHIVE = _made_archive()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@MANY
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode() + b"\n"))
def test_whatever_stands_in_a_record_is_read_or_named(content: bytes) -> None:
    lines, wrong = parse_lines(content)
    assert wrong or len(lines) == content.count(b"\n")
    try:
        parse_summary(content)
    except ValueError as error:
        assert str(error)


@st.composite
def lines(draw: st.DrawFn) -> list[MetricLine]:
    names = st.lists(st.integers(0, 1500), min_size=1, max_size=3)
    counts = draw(st.lists(names, min_size=0, max_size=4))
    return [
        MetricLine(step, 1.5 + step, {f"m{n}": float(n) for n in range(sum(count))})
        for step, count in enumerate(counts)
    ]


@EXAMPLES
@given(lines())
def test_batches_hold_every_metric_once_and_in_order(made: list[MetricLine]) -> None:
    found = batches(marked(made))
    assert all(0 < len(batch) <= BATCH for batch in found)
    flat = [(metric.key, metric.value, metric.step, metric.timestamp) for batch in found for metric in batch]
    wanted = []
    for line, mark in zip(made, marked(made), strict=True):
        wanted += [(n, v, line.step, int(line.time * 1000)) for n, v in {**line.metrics, MARK: mark.mark}.items()]
    assert flat == wanted, "and the mark of a line comes last: what has it has all of the line"
    for batch in found:
        if len({metric.step for metric in batch}) > 1:
            assert batch[-1].key == MARK, "a line that fits is in one batch"


@EXAMPLES
@given(lines(), st.integers(0, 4), st.booleans())
def test_what_a_record_holds_is_told_from_its_marks(made: list[MetricLine], count: int, earlier: bool) -> None:
    own = marked(made)
    held = own[: min(count, len(own))]
    points = [
        Metric(MARK, float(each.line.step) if earlier else each.mark, each.stamp, each.line.step) for each in held
    ]
    newest = points[-1].value if points else None
    assert newest is None or earlier or newest >= FIRST_MARK
    assert lines_held(newest, lambda: points, own) == len(held)
    if held:
        again = [*made[: len(held) - 1], MetricLine(len(held) - 1, made[len(held) - 1].time + 1, {"m0": 7.0})]
        wanted = Other.execution if len(held) == 1 else Other.earlier
        assert lines_held(newest, lambda: points, marked(again)) is wanted
