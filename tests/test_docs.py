"""README and docs: their links lead somewhere, what they name is there, and their commands and snippets run."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest
from support.markdown import FOLDERS, PAGES, ROOT, Block, anchors, blocks, links, named
from test_rooms import MAY_IMPORT

from experiments.jobs.settings import LaunchSettings

RUN, PLAN = "experiments.run", "experiments.plan"
ANSWERS = ("--help", "--cfg")  # flags of `run` with which it prints and trains nothing
PRESET_IN_SHORT = ("lr=1e-3", "seed=0")  # instead of 21 points a size, each of which takes time to compose
FRAME = ("```", "<!--", "@@", "--- a/", "+++ b/")  # lines of a page that nobody types
NOT_OURS = ("source", "make")  # first words of commands that are looked at and not run
COMMANDS = list(
    dict.fromkeys(
        tuple(words)
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash" and block.mark not in ("skip", "copy")
        for words in block.commands
        if words[0] not in NOT_OURS
    )
)
"""Each command of the pages once."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def module_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """The module that `python -m` or `torchrun -m` runs, and its arguments."""
    place = words.index("-m")
    return words[place + 1], list(words[place + 2 :])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that looks like the repository: pages name files below it."""
    look_like_the_repository(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look_like_the_repository(path: Path) -> None:
    for part in FOLDERS:
        (path / part).symlink_to(ROOT / part)


def test_the_readme_is_short_enough_to_be_read() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150, "move what a newcomer does not need to docs/"
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        if not target.startswith("https:"):
            path = page.parent / target if target else page
            assert path.exists(), f"{link}: no such file"
            assert not anchor or anchor in anchors(path), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_named_path_is_there(page: Path) -> None:
    made = {block.argument for block in blocks(page) if block.mark == "file"}
    for path, inside in named(page):
        assert (ROOT / path).exists() or path in made, f"{path}: no such file or folder"
        assert not inside or inside in definitions(ROOT / path), f"{path} has no {inside}"


def definitions(path: Path) -> set[str]:
    """Names of the functions, classes, methods and constants of a Python file."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_drawn_rooms_are_those_of_the_library() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `tinylora/(\w+)` \| .*? \| (.*?) ?\|$", page, re.M)
    drawn = {room: set(below.replace(",", "").split()) for room, below in rows}
    allowed = {room: set(below.split()) for room, below in MAY_IMPORT["tinylora"].items()}
    drawn["train"] = allowed["train"]  # "all of these"
    assert drawn == allowed, "the arrows have changed: draw them again in docs/architecture.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_module_is_there(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")):
        assert importlib.util.find_spec(module) is not None, f"python -m {module}: no such module"


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        for target in re.findall(r"[`\n]make ([a-z0-9-]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{name_of(page)}: make {target}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_answers_or_is_planned(
    command: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, arguments = module_of(command)
    if module == PLAN or (module == RUN and set(ANSWERS) & set(arguments)):
        assert status_of(module, arguments, monkeypatch) == 0
    elif module == RUN and "--points" not in arguments:
        assert status_of(PLAN, settings_of(arguments), monkeypatch) == 0


def status_of(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def settings_of(arguments: Sequence[str]) -> list[str]:
    """The settings of a sweep without its launcher, whose settings must be ones; a preset with one rate and seed."""
    known = {field.name for field in fields(LaunchSettings)}
    kept = []
    for word in arguments:
        if word.startswith("launcher."):
            assert word.removeprefix("launcher.").partition("=")[0] in known, word
        elif "=" in word and not word.startswith(("hydra/launcher=", "-")):
            kept.append(word)
    preset = any(word.startswith(("+paper=", "+study=")) for word in kept)
    given = {word.partition("=")[0] for word in kept}
    return [*(word for word in PRESET_IN_SHORT if word.partition("=")[0] not in given), *kept] if preset else kept


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_snippets_run(page: Path, folder: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "python" and not block.mark:
            exec(compile(block.text, name_of(page), "exec"), names)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands were run in small: what other pages find in outputs/."""
    path = tmp_path_factory.mktemp("docs")
    look_like_the_repository(path)
    run_page(ROOT / "README.md", path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_a_page_runs_from_top_to_bottom(page: Path, swept: Path, folder: Path) -> None:
    shutil.copytree(swept / "outputs", folder / "outputs")
    run_page(page, folder)


@pytest.mark.slow
def test_every_recorded_metric_is_explained(swept: Path) -> None:
    page = (ROOT / "docs" / "records-and-metrics.md").read_text(encoding="utf-8")
    names = [name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`([^`]+)`", row)]
    patterns = [re.escape(name).replace("<set>", r"\w+").replace(r"\*", r"\w+") for name in names]
    for file in sorted((swept / "outputs").glob("*/metrics.jsonl")):
        for line in file.read_text().splitlines():
            for metric in json.loads(line)["metrics"]:
                assert any(re.fullmatch(pattern, metric) for pattern in patterns), metric


def run_page(page: Path, path: Path) -> None:
    """Run the shell blocks of a page, each command as a process, in small where a comment says how."""
    for block in blocks(page):
        absent = block.mark == "needs" and importlib.util.find_spec(block.argument) is None
        if block.language != "bash" or block.mark in ("skip", "plan", "copy") or absent:
            continue
        for words in block.commands:
            if words[0] in NOT_OURS:
                continue
            module, _ = module_of(words)
            trains = module == RUN and not set(ANSWERS) & set(words)
            run(words + (block.argument.split() if trains and block.mark == "with" else []), path)


def run(words: Sequence[str], path: Path) -> None:
    """A command as a process; it must end well."""
    assert words[0] == "python", words
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(path)}
    ended = subprocess.run(
        [sys.executable, *words[1:]], cwd=path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{' '.join(words)}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"


RECIPES = sorted(
    {
        block.section
        for block in blocks(ROOT / "docs" / "contributing.md")
        if block.mark == "file" or block.language == "diff"
    }
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository without its history and its results."""
    for part in (*FOLDERS, "pyproject.toml"):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "study"))
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def follow(recipe: str, path: Path) -> list[Block]:
    """Write the files and make the changes of a recipe in a copy of the repository; returns its shell blocks."""
    own = [block for block in blocks(ROOT / "docs" / "contributing.md") if block.section == recipe]
    for block in own:
        if block.mark == "file":
            (path / block.argument).parent.mkdir(parents=True, exist_ok=True)
            (path / block.argument).write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            command = ["git", "apply", "--recount", "--unidiff-zero", "-"]
            done = subprocess.run(command, cwd=path, input=block.text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{recipe}: the change no longer fits: {done.stderr}"
    return [block for block in own if block.language == "bash"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_fits_the_sources_and_is_short(recipe: str, copy: Path) -> None:
    assert follow(recipe, copy)
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    section = page.partition(f"## {recipe}\n")[2].partition("\n## ")[0]
    written = [line for line in section.splitlines() if line and not line.startswith(FRAME)]
    assert len(written) < 30, "a longer recipe is not followed"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_works(recipe: str, copy: Path) -> None:
    for block in follow(recipe, copy):
        for words in block.commands:
            run(words, copy)
