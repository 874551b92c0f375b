"""Archives that anyone may have made: what is too large, doubled, damaged or of another model stays out."""

from __future__ import annotations

import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from support.records import make_folder
from support.slurm_jobs import ROOT

from experiments import records
from tinylora.records import archive, archive_stream
from tinylora.records.folder import CONFIG, METRICS, SUMMARY, Status
from tinylora.settings.errors import UsageError

KEY = "0123456789ab"


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    """An archive of these files."""
    with tarfile.open(path, "w:xz", format=tarfile.USTAR_FORMAT) as tar:
        for name, text in members:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return path


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def refused(path: Path, outputs: Path, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """It is refused in three parts, and nothing is left of it."""
    before = sorted(outputs.rglob("*")) if outputs.exists() else None
    assert records.main(["unpack", str(path), str(outputs)]) == 2
    printed = capsys.readouterr().err
    assert "rule:" in printed and "nothing was unpacked" in printed and "Traceback" not in printed
    for word in words:
        assert word in printed
    assert (sorted(outputs.rglob("*")) if outputs.exists() else None) == before


OTHER_BOMBS = ["many files", "an extended header", "behind the end"]


@pytest.mark.parametrize("kind", ["one file", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHER_BOMBS)])
def test_a_bomb_takes_neither_memory_nor_disk(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, zeros = tmp_path / "bomb", bytes(2**24)
    with lzma.open(path, "wb", preset=0) as file:
        if kind == "many files":
            for key in range(60):
                file.write(header(f"{key:012x}/{METRICS}", 2**24) + zeros)
        elif kind == "one file":
            file.write(header(f"{KEY}/{METRICS}", 2**30))
            for _ in range(64):
                file.write(zeros)
        else:
            if kind == "an extended header":
                file.write(header("x", 2**30, tarfile.XHDTYPE))
            else:
                file.write(header(f"{KEY}/{METRICS}", 0) + bytes(1024))
            for _ in range(64):
                file.write(zeros)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    refused(path, tmp_path / "b", capsys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
    assert not (tmp_path / "b").exists()


def test_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(archive_stream, "MOST_FILES", 10)
    path = tar_of(tmp_path / "r", *((f"{key:012x}/{CONFIG}", b"") for key in range(11)))
    refused(path, tmp_path / "b", capsys, "more than 10 files")


def test_what_is_too_large_for_an_archive_is_named_when_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        folder = make_folder(tmp_path / "a", seed=seed)
    (folder.path / archive.ADAPTER).write_bytes(bytes(3 * 2**20))
    monkeypatch.setitem(archive_stream.LARGEST, archive.ADAPTER, 2**20)
    assert records.main(["pack", str(tmp_path / "a"), str(tmp_path / "r")]) == 0
    said = capsys.readouterr()
    assert f"{folder.config.run_key}: a {archive.ADAPTER} of 3 MiB (at most 1 MiB)" in said.err and "1 runs" in said.out
    assert records.main(["unpack", str(tmp_path / "r"), str(tmp_path / "b")]) == 0


def damaged(name: str, change: Callable[[str], str]) -> Callable[[dict[str, bytes]], None]:
    def act(files: dict[str, bytes]) -> None:
        files[name] = change(files[name].decode("latin-1")).encode("latin-1")

    return act


def without_line(place: int) -> Callable[[str], str]:
    return lambda text: "".join(line for n, line in enumerate(text.splitlines(keepends=True)) if n != place)


def of_line(place: int, **fields: object) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = [json.loads(line) for line in text.splitlines()]
        lines[place] |= fields
        return "".join(json.dumps(line) + "\n" for line in lines)

    return change


def with_fields(**fields: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | fields)


WRONG = {
    "an empty metrics.jsonl": (METRICS, lambda _: ""),
    "no first line": (METRICS, without_line(0)),
    "no middle line": (METRICS, without_line(1)),
    "no last line": (METRICS, without_line(2)),
    "a line twice": (METRICS, lambda text: text + text.splitlines()[-1] + "\n"),
    "a cut line": (METRICS, lambda text: text[:-3]),
    "no JSON": (METRICS, lambda text: text.replace("{", "(", 1)),
    "a list": (METRICS, lambda text: "[]\n" * 3),
    "deep nesting": (METRICS, lambda text: "[" * 200_000 + "\n" + text),
    "no UTF-8": (METRICS, lambda text: text.replace("loss", "l\xffss")),
    "an infinite number": (METRICS, of_line(1, metrics={"train/loss": float("inf")})),
    "a word for a number": (METRICS, of_line(1, metrics={"train/loss": "=1+1"})),
    "a number beyond all": (METRICS, of_line(1, metrics={"train/loss": 10**400})),
    "a switch for a number": (METRICS, of_line(1, metrics={"train/loss": True})),
    "a list of metrics": (METRICS, of_line(1, metrics=[1.0])),
    "a step that is no number": (METRICS, of_line(1, step="1")),
    "a step that is a switch": (METRICS, of_line(1, step=True)),
    "no time": (METRICS, of_line(1, time=None)),
    "another field": (METRICS, of_line(1, more=1)),
    "other last metrics": (METRICS, of_line(2, metrics={"train/loss": 0.5})),
    "no object": (SUMMARY, lambda _: "[]"),
    "a deep summary": (SUMMARY, lambda _: "[" * 200_000),
    "no status": (SUMMARY, lambda _: "{}"),
    "an unknown status": (SUMMARY, with_fields(status="splendid")),
    "a run that has not ended": (SUMMARY, with_fields(status="cut short")),
    "a reason that is no text": (SUMMARY, with_fields(reason=[1])),
    "another step": (SUMMARY, with_fields(step=1)),
    "no first metrics": (SUMMARY, with_fields(base=None)),
    "other first metrics": (SUMMARY, with_fields(base={"train/loss": 9.0, "eval/test/greedy_strict": 0.1})),
    "no config": (CONFIG, lambda _: "{"),
    "a config that is text": (CONFIG, lambda _: "text"),
    "other settings": (CONFIG, lambda text: text.replace("seed: 0", "seed: 7")),
    "no provenance": (CONFIG, lambda text: text.partition("provenance:")[0]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_damaged_run_is_named_and_nothing_is_unpacked(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [make_folder(tmp_path / "a", (0.1, 0.2, float("nan")), seed=seed).config.run_key for seed in (0, 1)]
    archive.write(tmp_path / "a", tmp_path / "r")
    files = archive.read(tmp_path / "r")
    name, change = WRONG[what]
    damaged(name, change)(files[keys[0]])
    again = tar_of(tmp_path / "again", *((f"{key}/{name}", text) for key in files for name, text in files[key].items()))
    refused(again, tmp_path / "b", capsys, keys[0])
    (tmp_path / "a" / keys[0] / name).write_bytes(files[keys[0]][name])
    assert records.main(["pack", str(tmp_path / "a"), str(tmp_path / "rest")]) == 0
    assert f"not archived: {keys[0]}: " in capsys.readouterr().err
    assert set(archive.read(tmp_path / "rest")) == {keys[1]}, "what pack keeps, unpack takes"


def test_a_failed_run_needs_no_line(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", (), Status.failed)
    archive.write(tmp_path / "a", tmp_path / "r")
    assert archive.restore(tmp_path / "r", tmp_path / "b").new == 1
    assert (tmp_path / "b" / folder.config.run_key / SUMMARY).exists()


def test_a_file_twice_and_names_by_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_folder(tmp_path / "a").config.run_key
    archive.write(tmp_path / "a", tmp_path / "r")
    files = [(f"{run}/{name}", text) for name, text in archive.read(tmp_path / "r")[run].items()]
    refused(tar_of(tmp_path / "twice", *files, files[1]), tmp_path / "b", capsys, "twice")
    for name in (f"{run.upper()}/{CONFIG}", f"{run}/CONFIG.yaml", f"{run}/Config.yaml"):
        refused(tar_of(tmp_path / "case", *files, (name, b"")), tmp_path / "b", capsys, "it holds '")


@pytest.mark.parametrize("name", ["model_digest", "tokenizer_digest", "form_digest", "data_digest", "prompt_digest"])
def test_a_run_with_another_digest_is_no_run_that_is_there(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "a", provenance={name: "this"})
    folder = make_folder(tmp_path / "b", provenance={name: "that"})
    archive.write(tmp_path / "a", tmp_path / "r")
    refused(tmp_path / "r", tmp_path / "b", capsys, f"{name} that and this", str(folder.path))
    shutil.rmtree(tmp_path / "b")
    make_folder(tmp_path / "b", provenance={name: None})
    assert archive.restore(tmp_path / "r", tmp_path / "b").present == 1, "what an old record does not say"


def test_what_dead_processes_left_is_removed_and_nothing_of_living_ones(tmp_path: Path) -> None:
    make_folder(tmp_path / "a")
    archive.write(tmp_path / "a", tmp_path / "r")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with subprocess.Popen(["sleep", "60"]) as living:
        names = [f".unpack-{dead.pid}", f".unpack-{living.pid}", f".write-test-{dead.pid}", f".write-test-{living.pid}"]
        names += [f".index.html.{dead.pid}.tmp", f".index.html.{living.pid}.tmp", f".a.{dead.pid}@other-host.tmp"]
        (tmp_path / "b").mkdir()
        for name in names:
            (tmp_path / "b" / name).mkdir() if "unpack" in name else (tmp_path / "b" / name).touch()
        archive.restore(tmp_path / "r", tmp_path / "b")
        left = {path.name for path in (tmp_path / "b").iterdir() if path.name.startswith(".")}
        living.kill()
    assert left == {name for name in names if str(living.pid) in name or "other-host" in name}


def test_an_unpacking_that_was_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    for seed in range(3):
        make_folder(tmp_path / "a", seed=seed)
    archive.write(tmp_path / "a", tmp_path / "r")
    code = (
        "import os, sys\nfrom tinylora.records import archive\n"
        "archive.check_run = lambda *_: os.kill(os.getpid(), 9)\n"
        "archive.restore(*map(__import__('pathlib').Path, sys.argv[1:]))"
    )
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", code, tmp_path / "r", tmp_path / "b"], cwd=ROOT, check=False)
        assert killed.returncode == -9
        assert len(os.listdir(tmp_path / "b")) == 1, "one, and not that of the one before"
    assert archive.restore(tmp_path / "r", tmp_path / "b").new == 3
    assert sorted(os.listdir(tmp_path / "b")) == sorted(path.name for path in (tmp_path / "a").iterdir())


def test_an_unpacking_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "a")
    archive.write(tmp_path / "a", tmp_path / "r")
    with archive._staging(tmp_path / "b") as staging:
        assert archive.restore(tmp_path / "r", tmp_path / "b").new == 1
        assert staging.exists()
    with pytest.raises(UsageError):
        archive.restore(tmp_path / "absent", tmp_path / "b")
