"""Wrong command lines are refused before anything is written: each of `command_lines.yaml`, in one warm process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command_lines import CORPUS, pairs, words_of
from support.hostile_files import make_all

from experiments import plan, run

ROOT = Path(__file__).parents[2]
FAST, SLOW = 9, 12  # of the lines, one in so many is among the fast tests, and among all but the faults
LINES = [
    pytest.param(
        entry,
        line,
        id=f"{entry}: {line['words'][:60]}".encode("ascii", "replace").decode(),
        marks=[] if number % FAST == 0 else [pytest.mark.faults if number % SLOW else pytest.mark.slow],
    )
    for number, (entry, line) in enumerate(pair for kind in CORPUS for pair in pairs(kind))
]
AS_COMMANDS = ("u=1000000000", "-m u=1,13 u=2", "adapter=full u=13 lr=1")  # also in processes of their own


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("hostile") / "files")


def assert_refused(message: str, says: list[str], files: Path) -> None:
    assert "Traceback" not in message
    said = message[message.index("error: ") :].splitlines()
    assert [line[:10].strip().split(":")[0] for line in said[-2:]] == ["rule", "remedy"], message
    assert said[0].removeprefix("error: ").strip() and all(line.partition(":")[2].strip() for line in said[-2:])
    for part in says:
        assert part.replace("{files}", str(files)) in message, f"{part!r} is not said in {message}"


@pytest.mark.parametrize(("entry", "line"), LINES)
def test_a_wrong_command_line_is_refused_and_leaves_nothing(
    entry: str,
    line: dict[str, Any],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("experiments.sweep.run_packs", lambda *_: pytest.fail("it was started"))
    words = words_of(line["words"], files)
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    before = sorted(files.rglob("*"))
    status = run.main() if entry == "run" else plan.main([word for word in words if word != "-m"])
    message = capfd.readouterr().err
    assert status == line.get("exit", 2), message
    assert_refused(message, line["says"], files)
    assert list(tmp_path.iterdir()) == [] and sorted(files.rglob("*")) == before, "something was written"


@pytest.mark.parametrize("line", AS_COMMANDS)
def test_a_wrong_command_line_as_a_command(line: str, files: Path, tmp_path: Path) -> None:
    says = next(each["says"] for lines in CORPUS.values() for each in lines if each["words"] == line)
    words = [sys.executable, "-m", "experiments.run", *words_of(line, files), "outputs_dir=absent/outputs"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "" and list(tmp_path.iterdir()) == []
    assert ended.returncode == 2, ended.stderr
    assert_refused(ended.stderr, says, files)
