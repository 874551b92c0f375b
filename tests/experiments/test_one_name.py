"""`tinylora <command>`: every command by one name, and its completion in bash."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import ui
from experiments.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]
COMPLETE = """source {root}/conf/completion.bash
COMP_LINE="$1"; COMP_POINT=${{#1}}; COMP_WORDS=($1); COMP_CWORD=$2
_tinylora_completion tinylora "$3" ""
printf "%s\\n" "${{COMPREPLY[@]}}"
"""


def test_every_command_that_can_be_called_is_there() -> None:
    own = {path.stem for path in (ROOT / "experiments").glob("*.py") if "def main(" in path.read_text(encoding="utf-8")}
    named = {module.removeprefix("experiments.") for module, _ in COMMANDS.values()}
    assert own - {"__main__"} == named - {"analysis.build"}
    assert all(importlib.util.find_spec(module) for module, _ in COMMANDS.values())


def test_a_command_is_handed_its_words(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "experiments", "status", "--no-sync", "--outputs-dir", str(tmp_path / "none")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "no such folder" in done.stderr and "remedy:" in done.stderr


def test_other_words_are_refused_and_no_word_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reprot"]) == 2 and "give report" in capsys.readouterr().err
    assert main(["nope"]) == 2
    refused = capsys.readouterr()
    assert "nope: there is no such command" in refused.err and "  samples " in refused.err and not refused.out
    assert main([]) == main(["--help"]) == 0
    assert "  samples " in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "place", "word", "offered"),
    [
        ("tinylora ", 1, "", {"run", "report", "ui"}),
        ("tinylora s", 1, "s", {"samples", "status", "sync"}),
        ("tinylora run model=mini", 2, "model=mini", {"model=miniature-llama", "model=miniature-qwen2"}),
        ("tinylora plan model=mini", 2, "model=mini", {"model=miniature-llama", "model=miniature-qwen2"}),
    ],
)
def test_bash_completes_commands_and_settings(
    line: str, place: int, word: str, offered: set[str], tmp_path: Path
) -> None:
    script = tmp_path / "tinylora"
    script.write_text(f"#!{sys.executable}\nfrom experiments.__main__ import main\nraise SystemExit(main())\n")
    script.chmod(0o755)
    surroundings = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", COMPLETE.format(root=ROOT), "bash", line, str(place), word]
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True)
    assert offered <= set(done.stdout.split()), done.stderr


def test_the_pages_need_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--outputs-dir", str(tmp_path), "--no-browser"]) == 2
    assert "mlflow.db: no such file" in capsys.readouterr().err
