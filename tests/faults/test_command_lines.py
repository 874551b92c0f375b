"""Wrong command lines are refused before anything is written: each of `command_lines.yaml`, in one warm process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.hostile_files import make_all

from experiments import plan, run

ROOT = Path(__file__).parents[2]
CORPUS: dict[str, list[dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("command_lines.yaml").read_text())
LINES = [
    pytest.param(entry, line, id=f"{entry}: {line['words'][:60]}".encode("ascii", "replace").decode())
    for lines in CORPUS.values()
    for line in lines
    for entry in {"run": ("run",), "plan": ("plan",), "both": ("run", "plan")}[line.get("by", "run")]
]
AS_COMMANDS = ("u=1000000000", "-m u=1,13 u=2", "adapter=full u=13 lr=1")  # also in processes of their own


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("hostile") / "files")


def words_of(line: str, files: Path) -> list[str]:
    gsm8k = "task=gsm8k lr=1 rollout.max_new_tokens=8"
    names = {
        "{data}": f"{gsm8k} task.folder={files}/good-data",
        "{gsm8k}": f"{gsm8k} model.chat_template={files}/good.jinja",
        "{files}": str(files),
        "{long}": "a" * 5000,
        "{digits}": "1" * 5000,
        "{brackets}": "[" * 5000,
        "{nested}": "{a:" * 30 + "1" + "}" * 30,
    }
    for name, meant in names.items():
        line = line.replace(name, meant)
    return shlex.split(line)


def assert_refused(status: int | None, message: str, says: list[str], files: Path) -> None:
    assert status == 2, message
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
    words = words_of(line["words"], files)
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    before = sorted(files.rglob("*"))
    status = run.main() if entry == "run" else plan.main([word for word in words if word != "-m"])
    assert_refused(status, capfd.readouterr().err, line["says"], files)
    assert list(tmp_path.iterdir()) == [] and sorted(files.rglob("*")) == before, "something was written"


@pytest.mark.parametrize("line", AS_COMMANDS)
def test_a_wrong_command_line_as_a_command(line: str, files: Path, tmp_path: Path) -> None:
    says = next(each["says"] for lines in CORPUS.values() for each in lines if each["words"] == line)
    words = [sys.executable, "-m", "experiments.run", *words_of(line, files), "outputs_dir=absent/outputs"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "" and list(tmp_path.iterdir()) == []
    assert_refused(ended.returncode, ended.stderr, says, files)
