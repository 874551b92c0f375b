"""Records in one file: run folders, packed and unpacked, and archives that are refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.records import append_samples, make_evaluated, make_items, make_kept, make_samples, metrics_of

from analysis.records import load
from experiments import records
from tinylora.records import archive
from tinylora.records.evaluations import add_evaluation
from tinylora.records.folder import RunFolder, Status
from tinylora.records.kept import KeptFile
from tinylora.settings.config import RunConfig, TrackingConfig
from tinylora.settings.errors import UsageError

PASSWORD = "https://me:secret@tracking.example"


def make_run(outputs: Path, seed: int, status: Status | None = Status.finished) -> RunFolder:
    config = RunConfig(lr=0.01, seed=seed, steps=1, outputs_dir=str(outputs), tracking=TrackingConfig(uri=PASSWORD))
    folder = RunFolder(config)
    folder.path.mkdir(parents=True)
    folder.describe({"scale_model": True, "trained_values": 13})
    (item,) = make_items(step=0)
    folder.append_items([item])
    folder.append(0, metrics_of(item) | {"eval/merge_kl": 1e-12})
    KeptFile(folder.path, fsync=False).append(make_kept(0))
    add_evaluation(folder.path, make_evaluated(1))
    append_samples(folder, 1, make_samples(1), {"train/reward": 1 / 3, "train/loss": 0.5})
    (folder.path / archive.ADAPTER).write_bytes(b"v")
    (folder.path / "state.safetensors").write_bytes(b"state")
    if status is not None:
        folder.conclude(status, None, {"trained_values": 13})
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_curves_that_are_kept_are_those_that_are_drawn() -> None:
    assert archive.CURVES == load.CURVES, "a compact archive must keep what analysis/records/load.py reads"


def test_packed_runs_come_back_as_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [make_run(tmp_path / "a", seed) for seed in (0, 1)]
    unfinished = make_run(tmp_path / "a", 2, status=None)
    assert records.main(["pack", str(tmp_path / "a"), str(tmp_path / "r.tar.xz")]) == 0
    assert f"{unfinished.config.run_key}: has not ended" in capsys.readouterr().err
    for _ in range(2):
        assert records.main(["unpack", str(tmp_path / "r.tar.xz"), str(tmp_path / "b")]) == 0
    assert "0 runs unpacked" in capsys.readouterr().out.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted(run.config.run_key for run in made)
    for run in made:
        again = RunFolder(replace(run.config, outputs_dir=str(tmp_path / "b")))
        again.check()
        assert again.lines() == run.lines()
        assert again.status() is Status.finished
        assert set(content(again.path)) == set(archive.FILES) - {archive.STATE}
    assert PASSWORD.encode() not in b"".join(content(tmp_path / "b").values())
    assert str(tmp_path).encode() not in b"".join(content(tmp_path / "b").values())


def test_a_compact_archive_rounds_nothing_and_is_the_same_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", 0)
    for name in ("one", "two"):
        archive.write(tmp_path / "a", tmp_path / name, compact=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    files = archive.read(tmp_path / "one")[run.config.run_key]
    lines = [json.loads(line)["metrics"] for line in files["metrics.jsonl"].splitlines()]
    assert lines == [metrics_of(make_items(0)[0]) | {"eval/merge_kl": 1e-12}, {"train/reward": 1 / 3}]
    assert not {archive.ADAPTER, archive.SAMPLES, archive.KEPT} & set(files)
    assert archive.restore(tmp_path / "one", tmp_path / "b").new == 1, "a run without samples is whole"
    assert files["items.jsonl"] == (run.path / "items.jsonl").read_bytes()


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    first, other = make_run(tmp_path / "a", 0), make_run(tmp_path / "other", 1)
    archive.write(tmp_path / "a", tmp_path / "r")
    (tmp_path / "b").mkdir()
    shutil.copytree(other.path, tmp_path / "b" / first.config.run_key)
    before = content(tmp_path / "b")
    with pytest.raises(UsageError, match="no run is overwritten"):
        archive.restore(tmp_path / "r", tmp_path / "b")
    assert content(tmp_path / "b") == before


def tar_of(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    """An archive of members: name, content, and type."""
    with tarfile.open(path, "w:xz") as tar:
        for name, text, kind in members:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = (
                len(text),
                kind,
                "/etc/passwd" if kind != tarfile.REGTYPE else "",
            )
            tar.addfile(member, io.BytesIO(text))
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../0123456789ab/config.yaml", tarfile.REGTYPE),
        ("/else/config.yaml", tarfile.REGTYPE),
        ("0123456789ab/../../config.yaml", tarfile.REGTYPE),
        ("0123456789ab/other.py", tarfile.REGTYPE),
        ("0123456789ab/config.yaml", tarfile.SYMTYPE),
        ("0123456789ab/config.yaml", tarfile.LNKTYPE),
        ("0123456789ab/config.yaml\n", tarfile.REGTYPE),
    ],
)
def test_nothing_but_records_is_unpacked(name: str, kind: bytes, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "r", (name, b"", kind))
    with pytest.raises(UsageError, match="an archive of records holds"):
        archive.restore(path, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_damaged_and_foreign_archives_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "a", 0)
    archive.write(tmp_path / "a", tmp_path / "r")
    (tmp_path / "cut").write_bytes((tmp_path / "r").read_bytes()[:-100])
    (tmp_path / "text").write_text("no archive")
    files = archive.read(tmp_path / "r")[run.config.run_key]
    as_other = [(f"0123456789ab/{name}", text, tarfile.REGTYPE) for name, text in files.items()]
    tar_of(tmp_path / "renamed", *as_other)
    tar_of(tmp_path / "empty")
    for name, words in (
        ("cut", "that is whole"),
        ("text", "that is whole"),
        ("absent", "that can be read"),
        ("renamed", "its settings are those of"),
        ("empty", "it has no run"),
    ):
        assert records.main(["unpack", str(tmp_path / name), str(tmp_path / "b")]) == 2
        printed = capsys.readouterr().err
        assert words in printed
        assert "rule:" in printed
        assert "remedy:" in printed
    assert not any((tmp_path / "b").glob("*"))
    assert records.main(["pack", str(tmp_path / "nowhere"), str(tmp_path / "x")]) == 2
