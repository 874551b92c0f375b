"""What must work or start without PyTorch: submitting and watching jobs, records, reports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = ROOT / "tests" / "support" / "without.py"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("experiments.jobs.submit", ""),  # a module without a command: it is imported
        ("experiments.status", "--no-sync --outputs-dir conf"),
        ("experiments.cancel", "--help"),
        ("experiments.sync", "--help"),
        ("experiments.records", "--help"),
        ("experiments.plan", "u=1,13"),
        ("analysis.build", "--help"),
    ],
)
def test_pytorch_is_not_imported(module: str, words: str) -> None:
    command = [sys.executable, str(WITHOUT), "torch,transformers", module, *words.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{module} needs PyTorch where it should not: import it later\n{ended.stderr}"
