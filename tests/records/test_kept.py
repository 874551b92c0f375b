"""v at every evaluation in a run folder: what is written is read, and what does not fit the metrics is damage."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.records import append_evaluation, make_folder, make_kept

from tinylora.records.damage import damage_of
from tinylora.records.folder import RunFolder, Status
from tinylora.records.kept import KEPT, LARGEST, KeptFile, KeptV, is_small, parse_kept, read_kept
from tinylora.settings.config import Adapter, AdapterConfig, EvalConfig, Precision, RunConfig

STEPS = 3


def make_run(outputs: Path, status: Status | None = Status.finished) -> RunFolder:
    """A run that was evaluated at every step but the first one after the beginning."""
    folder = make_folder(outputs, (), None, steps=STEPS)
    writer = KeptFile(folder.path, fsync=False)
    for step in range(STEPS + 1):
        if step == 1:
            folder.append(step, {"train/loss": 0.5})
            continue
        writer.append(make_kept(step))
        append_evaluation(folder, step, 0.5)
    if status is not None:
        folder.conclude(status, None, {})
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    assert read_kept(folder.path) == [make_kept(step) for step in (0, 2, 3)] and damage_of(folder) is None
    whole = KeptV(5, Precision.int8, (1, 2), b"\x01\xff", 0.25)
    assert parse_kept(whole.text().encode()) == ([whole], None)


def test_resuming_drops_later_steps_and_what_was_cut(tmp_path: Path) -> None:
    folder = make_run(tmp_path, None)
    with (folder.path / KEPT).open("a") as file:
        file.write('{"step": 4, "prec')
    folder.drop_after(2)
    KeptFile(folder.path, fsync=True).resume(folder.lines())
    assert read_kept(folder.path) == [make_kept(0), make_kept(2)]


def test_a_file_that_was_removed_is_not_begun_anew(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / KEPT).unlink()
    writer = KeptFile(folder.path, fsync=False)
    writer.resume(folder.lines())
    writer.append(make_kept(4))
    assert not (folder.path / KEPT).exists() and damage_of(folder) is None, "it is whole without"


def changed(line: str, **fields: object) -> str:
    return json.dumps(json.loads(line) | fields) + "\n"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (lambda of: of[:2], "its lines end before step 3"),
        (lambda of: [*of, make_kept(4).text()], "step 4, which was not evaluated"),
        (lambda of: [of[0], make_kept(1).text(), *of[1:]], "it has v of step 1 where step 2 belongs"),
        (lambda of: [*of[:2], of[2][:-9]], "its last line is cut"),
        (lambda of: [changed(of[0], v=json.loads(of[1])["v"]), *of[1:]], "its digest is not that of its values"),
        (lambda of: [changed(of[0], shape=[1, 14]), *of[1:]], "it has 52 bytes for a v of shape"),
        (lambda of: [changed(of[0], precision="int4"), *of[1:]], "its scale is None"),
        (lambda of: [changed(of[0], precision="fp64"), *of[1:]], "fp64"),
        (lambda of: ["[]\n", *of[1:]], "it has other fields"),
    ],
)
def test_a_file_that_does_not_fit_the_metrics_is_damage(lines: object, says: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    path = folder.path / KEPT
    path.write_text("".join(lines(path.read_text().splitlines(keepends=True))))  # type: ignore[operator]
    found = damage_of(folder) or ""
    assert says in found and KEPT in found and "without this file the run is whole" in found


def test_small_adapters_alone_are_kept() -> None:
    most = LARGEST // 4
    run = RunConfig(lr=0.01, steps=100)
    assert is_small(run, 13) and is_small(run, most)
    assert not is_small(run, most + 1) and is_small(dataclasses.replace(run, precision=Precision.bf16), most + 1)
    assert not is_small(dataclasses.replace(run, steps=1000, eval=EvalConfig(every=1)), most), "4 MiB in all"
    assert is_small(dataclasses.replace(run, steps=1000, eval=EvalConfig(every=1)), 1000)
    assert not is_small(dataclasses.replace(run, adapter=AdapterConfig(Adapter.none)), 0)
