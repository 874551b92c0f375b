"""Python in a process of its own: where some packages are not installed, and what an import loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))  # what is None there is not found, as if not installed
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run_without(packages: str, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m <module> <words>` where packages (their names with commas between) are not installed."""
    command = [sys.executable, "-c", WITHOUT, packages, module, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def loaded_by(module: str) -> set[str]:
    """The packages that are loaded after `import <module>`."""
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))
