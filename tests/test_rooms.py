"""The arrows between rooms, read from the sources: down only, no circle, no PyTorch where none is needed.

The rules are data: every room, and the rooms that it may import. Whoever adds an arrow adds it here, and says so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up: a room (a folder, or a file beside the folders) may import the rooms of its package that are named
# behind it, all of which stand above it in this list.
MAY_IMPORT: dict[str, dict[str, str]] = {
    "tinylora": {
        "settings": "",
        "models": "settings",
        "answers": "settings",
        "tasks": "settings answers",
        "records": "settings",
        "adapters": "settings models",
        "engine": "settings models records adapters",
        "train": "settings models answers tasks records adapters engine",
    },
    "experiments": {
        "display": "",
        "compose": "display",
        "planning": "display compose",
        "sweep": "display planning",
        "search": "display compose",
        "found": "display compose search",
        "jobs": "display planning sweep",
        "naming": "jobs",
        "adapters": "compose naming",
        "command": "",
        "run": "compose planning sweep jobs command",
        "plan": "compose planning search found command",
        "prepare": "compose display sweep command",
        "status": "jobs command",
        "cancel": "jobs command",
        "logs": "jobs naming command",
        "sync": "command",
        "records": "command",
        "samples": "display naming command",
        "evaluate": "display planning adapters command",
        "chat": "display naming adapters command",
        "export": "display naming adapters command",
        "survey": "display compose command",
        "questions": "survey command",
        "miniatures": "",
        "pretrain": "command miniatures",
        "ui": "command",
        "__main__": "",
        "examples": "",
    },
    "analysis": {
        "options": "",
        "records": "",
        "statistics": "records",
        "drawing": "",
        "paper": "options records statistics drawing",
        "page": "options records statistics drawing paper",
        "build": "options records page",
    },
}
PACKAGES_BELOW = {
    "tinylora": "",
    "experiments": "tinylora",
    "analysis": "tinylora",
    "hydra_plugins": "tinylora experiments",
    "benchmarks": "tinylora experiments analysis",
}
ROOMS = [f"{package}.{room}" for package, rooms in MAY_IMPORT.items() for room in rooms]
WITHOUT_TORCH = ("tinylora.settings", "tinylora.answers", "tinylora.tasks", "tinylora.records", "analysis")
LONGEST_FILE, LONGEST_FUNCTION = 300, 40


def sources(room: str) -> list[Path]:
    """The files of a package or room; a room can be one file."""
    place = ROOT / room.replace(".", "/")
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it; of `from a import b`, a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / alias.name
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def allows(room: str, module: str) -> bool:
    """Whether a room may import a module: its own, of a room below it, of a package below its own, or its package."""
    package, _, name = room.partition(".")
    rooms = {f"{package}.{each}" for each in MAY_IMPORT.get(package, {}).get(name, "").split()}
    parts = module.split(".")
    return module == package or bool({parts[0], ".".join(parts[:2])} & {room, *rooms, *PACKAGES_BELOW[package].split()})


@pytest.mark.parametrize("room", [*ROOMS, "hydra_plugins", "benchmarks"])
def test_a_room_imports_what_stands_below_it(room: str) -> None:
    found = {
        f"{module_of(path)} imports {module}"
        for path in sources(room)
        for module in imports(path)
        if module.split(".")[0] in PACKAGES_BELOW and not allows(room, module)
    }
    assert not found, f"move what is needed down, or add the arrow to MAY_IMPORT if it goes down: {sorted(found)}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_room_has_its_rules(package: str) -> None:
    folder, rooms = ROOT / package, MAY_IMPORT[package]
    there = {path.parent.name for path in folder.glob("*/__init__.py")} | {path.stem for path in folder.glob("*.py")}
    assert rooms.keys() == there - {"__init__"}, "say in MAY_IMPORT what each of them may import"
    order = list(rooms)
    for room, names in rooms.items():
        assert all(order.index(name) < order.index(room) for name in names.split()), f"{room} looks up"


@pytest.mark.parametrize("package", PACKAGES_BELOW)
def test_files_import_each_other_in_no_circle(package: str) -> None:
    modules = {module_of(path): path for path in sources(package)}
    graph = {
        name: {each for each in imports(path) if each in modules and each != name} for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_the_floor_needs_no_torch(room: str) -> None:
    heavy = {"torch", "transformers", "safetensors"}
    found = [module_of(path) for path in sources(room) if heavy & {each.split(".")[0] for each in imports(path)}]
    assert not found, "what is imported for status, reports and plans must start fast, and where there is no PyTorch"


@pytest.mark.parametrize("package", [*MAY_IMPORT, "hydra_plugins", "benchmarks"])
def test_files_and_functions_fit_on_a_screen(package: str) -> None:
    long = []
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > LONGEST_FILE:
            long.append(f"{module_of(path)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{module_of(path)}.{node.name}: {lines} lines")
    assert not long, f"is there a second idea in it, which wants a file or function of its own? {long}"
