"""What must work or start without PyTorch: submitting and watching jobs, records, reports. Help needs nothing heavy."""

from __future__ import annotations

import pytest
from support.processes import run_without

from experiments.__main__ import COMMANDS


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("experiments.jobs.submit", ""),  # a module without a command: it is imported
        ("experiments.status", "--no-sync --outputs-dir conf"),
        ("experiments.cancel", "--help"),
        ("experiments.sync", "--help"),
        ("experiments.records", "--help"),
        ("experiments.samples", "--help"),
        ("experiments.evaluate", "--help"),
        ("experiments.chat", "--help"),
        ("experiments.export", "--help"),
        ("experiments.plan", "u=1,13"),
        ("analysis.build", "--help"),
    ],
)
def test_pytorch_is_not_imported(module: str, words: str) -> None:
    ended = run_without("torch,transformers", module, *words.split())
    assert ended.returncode == 0, f"{module} needs PyTorch where it should not: import it later\n{ended.stderr}"


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS.values()])
def test_help_is_there_at_once(module: str) -> None:
    heavy = "torch,transformers,mlflow,pandas,matplotlib,scipy,altair" + (
        ",hydra" if module == "experiments.run" else ""
    )
    ended = run_without(heavy, module, "--help")
    assert ended.returncode == 0 and ended.stdout, f"{module} --help takes seconds: import later\n{ended.stderr}"
