"""What is installed: each extra has the packages that it needs, and without one its commands say so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNNER = """
import json, runpy, sys
blocked = set(json.loads(sys.argv.pop(1)))

class Others:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Others(finder) for finder in sys.meta_path]
what = sys.argv.pop(1)
sys.argv[0] = what
exec(sys.argv[1]) if what == "-c" else runpy.run_module(what, run_name="__main__", alter_sys=True)
"""
LIBRARY = """
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from tinylora.adapters.attach import attach, load, save
import tinylora.models
folder = Path(tinylora.models.__file__).parent / "miniatures" / "miniature-qwen2"
model = AutoModelForCausalLM.from_pretrained(folder)
adapter = attach(model, u=3)
tokens = torch.tensor([[1, 2, 3]])
model(tokens, labels=tokens).loss.backward()
assert all(each.grad is not None for each in adapter.parameters())
"""
SMALL = "steps=1 eval.test_items=2 eval.validation_items=2 eval.samples=1 algorithm.prompts=2 algorithm.samples=2"


def name_of(requirement: str) -> tuple[str, tuple[str, ...]]:
    """The package that is required, in the form that names are compared in, and its extras."""
    found = re.match(r"([A-Za-z0-9._-]+)(?:\[([^]]*)\])?", requirement)
    assert found is not None
    extras = tuple(found[2].split(",")) if found[2] else ()
    return re.sub(r"[-_.]+", "-", found[1]).lower(), extras


def closure(extra: str | None) -> set[str]:
    """The packages that come with the library and this extra, as far as they are installed here."""
    asked = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] if extra else [])]
    waiting, found = [name_of(each)[0] for each in asked], set[str]()
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        found.add(package)
        try:
            needs = requires(package) or []
        except PackageNotFoundError:  # of another system, or an option
            continue
        waiting += [name_of(need)[0] for need in needs if "extra ==" not in need]
    return found


def absent(extra: str | None) -> list[str]:
    """The modules that are installed here, but would not be with this extra alone."""
    there = closure(extra)
    own = {"tinylora", "pip", "setuptools"}
    return [
        module
        for module, packages in packages_distributions().items()
        if not any(name_of(package)[0] in there | own for package in packages)
        and module not in ("_distutils_hack", "pkg_resources", "tinylora", "experiments", "analysis", "hydra_plugins")
    ]


def run(
    extra: str | None, *words: str, python: str = sys.executable, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    command = [python, "-c", RUNNER, json.dumps(absent(extra)), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_something_is_blocked() -> None:
    assert {"hydra", "mlflow", "pandas", "trl", "reasoning_gym"} <= set(absent(None))
    assert "hydra" not in absent("sweep") and "matplotlib" not in absent("report")


def test_the_library_needs_no_extra() -> None:
    done = run(None, "-c", LIBRARY)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "extra"), [("experiments.run", "sweep"), ("experiments", "sweep"), ("analysis.build", "report")]
)
def test_a_command_without_its_extra_says_what_to_install(command: str, extra: str) -> None:
    done = run(None, command, "--help")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"tinylora[{extra}]" in done.stderr and "remedy:" in done.stderr


def test_each_extra_does_what_it_is_for(tmp_path: Path) -> None:
    trained = run("sweep", "experiments.run", "u=3", *SMALL.split(), f"outputs_dir={tmp_path}")
    assert trained.returncode == 0, trained.stderr
    built = run("report", "analysis.build", "--outputs-dir", str(tmp_path), "--out", str(tmp_path / "reports"))
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "reports" / "index.html").is_file()
    assert "untrained" in (tmp_path / "reports" / "answers.html").read_text(encoding="utf-8")


@pytest.mark.skipif("reasoning_gym" not in packages_distributions(), reason="pip install reasoning-gym")
def test_tasks_bring_their_generators() -> None:
    script = "import reasoning_gym, datasets; from tinylora.tasks import generated; assert generated.NAME"
    done = run("tasks", "-c", script)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a new environment that has this project from its wheel, and the packages of this one."""
    made = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "analysis/study/")):
            (made / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, made / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(made), str(made / "source")]
    subprocess.run(build, check=True)
    venv.create(made / "environment", with_pip=False)
    python = made / "environment" / "bin" / "python"
    (wheel,) = made.glob("tinylora-*.whl")
    install = [*pip, "--python", str(python), "install", "--no-deps", str(wheel)]
    subprocess.run(install, check=True)
    (packages,) = (made / "environment").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n", encoding="utf-8")
    return str(python)


@pytest.mark.slow
def test_a_wheel_in_a_new_environment_has_all_that_each_extra_needs(wheel_python: str, tmp_path: Path) -> None:
    where = run(None, "-c", "import tinylora; print(tinylora.__file__)", python=wheel_python, folder=tmp_path)
    assert str(Path(wheel_python).parents[1]) in where.stdout, where.stderr
    outputs = str(tmp_path / "outputs")
    for extra, *words in (
        (None, "-c", LIBRARY),
        ("sweep", "experiments.run", "--help"),
        ("sweep", "experiments.run", "u=3", *SMALL.split(), f"outputs_dir={outputs}"),
        ("sweep", "experiments.plan", "-m", "+paper=table2", "model=miniature-llama"),
        ("report", "analysis.build", "--outputs-dir", outputs, "--out", str(tmp_path / "reports")),
        ("tasks", "-c", "import tinylora.tasks.generated"),
    ):
        done = run(extra, *words, python=wheel_python, folder=tmp_path)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert (tmp_path / "reports" / "index.html").is_file()
