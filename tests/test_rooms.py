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

# From the ground up: a room may import the rooms named behind it, which all stand above it in this list.
MAY_IMPORT: dict[str, str] = {
    "tinylora.settings": "",
    "tinylora.models": "settings",
    "tinylora.answers": "settings",
    "tinylora.tasks": "settings answers",
    "tinylora.records": "settings",
    "tinylora.adapters": "settings models",
    "tinylora.engine": "settings models records adapters",
    "tinylora.train": "settings models answers tasks records adapters engine",
}
WITHOUT_TORCH = ("tinylora.settings", "tinylora.answers", "tinylora.tasks", "tinylora.records")
LONGEST_FILE, LONGEST_FUNCTION = 300, 40
PACKAGES = ("tinylora", "experiments", "analysis", "hydra_plugins")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package.replace(".", "/")).rglob("*.py"))


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


def room_of(module: str) -> str:
    """The room of a module of tinylora: its first folder; the module itself elsewhere."""
    return ".".join(module.split(".")[:2]) if module.startswith("tinylora.") else module


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_stands_below_it(room: str) -> None:
    allowed = {room, "tinylora", *(f"tinylora.{name}" for name in MAY_IMPORT[room].split())}
    found = {
        f"{module_of(path)} imports {module}"
        for path in sources(room)
        for module in imports(path)
        if module.split(".")[0] in PACKAGES and room_of(module) not in allowed
    }
    assert not found, f"move what is needed down, or add the arrow to MAY_IMPORT if it goes down: {sorted(found)}"


def test_every_folder_of_the_library_is_a_room_with_its_rules() -> None:
    folders = {path.parent.name for path in (ROOT / "tinylora").glob("*/__init__.py")}
    assert {room.removeprefix("tinylora.") for room in MAY_IMPORT} == folders
    order = list(MAY_IMPORT)
    for room, below in MAY_IMPORT.items():
        assert all(order.index(f"tinylora.{name}") < order.index(room) for name in below.split()), f"{room} looks up"


@pytest.mark.parametrize("package", PACKAGES)
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


@pytest.mark.parametrize("package", PACKAGES)
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
