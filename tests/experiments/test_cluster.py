"""Profiles of clusters: files of launcher settings, shipped or one's own, and what SLURM is asked for by them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import run
from experiments.compose import CONF
from experiments.jobs import submit
from experiments.jobs.ledger import Submission, Sweep
from experiments.jobs.request import environment, parameters, place_of_jobs, python_of
from experiments.jobs.settings import Kind, LaunchSettings

Asked = Callable[[str], tuple[int, Kind | None, LaunchSettings | None]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """What a command line would submit: its exit status, the launcher and its settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))

    def call(words: str) -> tuple[int, Kind | None, LaunchSettings | None]:
        found: list[Any] = [None, None]

        def submitted(points: Any, kind: Kind, settings: LaunchSettings) -> None:
            found[:] = kind, settings

        monkeypatch.setattr(submit, "submit_sweep", submitted)
        monkeypatch.setattr(sys, "argv", ["run.py", "-m", "u=1,13", f"outputs_dir={tmp_path}/o", *words.split()])
        return run.main(), found[0], found[1]

    return call


@pytest.mark.parametrize("profile", sorted(path.stem for path in (CONF / "cluster").glob("*.yaml")))
def test_every_shipped_profile_submits_to_slurm(profile: str, asked: Asked) -> None:
    status, kind, settings = asked(f"+cluster={profile}")
    assert (status, kind) == (0, Kind.slurm) and settings is not None and settings.partition == "gpu"


def test_the_command_line_stands_above_a_profile(asked: Asked) -> None:
    _, kind, settings = asked("+cluster=gpus launcher.partition=long launcher.minutes=5 hydra/launcher=local")
    assert settings is not None and kind is Kind.local
    assert (settings.partition, settings.minutes, settings.gpus, settings.gpu_count) == ("long", 5, "h100:1", 1)
    assert settings.environment == {"HF_HUB_OFFLINE": "1"}


def test_a_profile_of_ones_own_is_found(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine/tinylora/cluster").mkdir(parents=True)
    profile = tmp_path / "mine/tinylora/cluster/ours.yaml"
    profile.write_text("# @package hydra.launcher\npartition: big\ntimeout_min: 30\n")
    assert asked("+cluster=ours")[0] == 2, "in no folder that is looked into"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    for words in ("+cluster=ours", f"-cd {tmp_path}/mine/tinylora +cluster=ours"):
        _, kind, settings = asked(words)
        assert settings is not None and (kind, settings.partition, settings.minutes) == (Kind.slurm, "big", 30)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("partitoin: main", ["cluster=ours: launcher.partitoin=main", "give launcher.partition="]),
        ("gpus: h100", ["launcher.gpus=h100", "h100:4"]),
        ("timeout_min: 5\nminutes: 7", ["launcher.timeout_min=5", "give launcher.minutes=5"]),
        ("memory_per_gpu_gb: 8", ["launcher.memory_per_gpu_gb=8", "for jobs with GPUs"]),
        ("environment: x", ["launcher.environment=x", "names with a value"]),
    ],
)
def test_a_profile_that_cannot_be_is_refused(
    profile: str, said: list[str], asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "mine/tinylora/cluster").mkdir(parents=True)
    (tmp_path / "mine/tinylora/cluster/ours.yaml").write_text(f"# @package hydra.launcher\n{profile}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    assert asked("+cluster=ours") == (2, None, None)
    message = capsys.readouterr().err
    assert all(part in message for part in said) and "Traceback" not in message, message


@pytest.mark.parametrize("words", ["+cluster=gpus,container", "+cluster.gpus=3", "+cluster={gpus:3}", "+cluster=3"])
def test_a_cluster_is_one_profile_by_its_name(words: str, asked: Asked, capsys: Any) -> None:
    assert asked(words)[0] == 2
    assert "give +cluster=<name>" in capsys.readouterr().err


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    settings = LaunchSettings(
        gpus="h100:4",
        memory_per_gpu_gb=1.5,
        exclude="node7",
        mail_user="me",
        srun_args=["--container-image=x"],
        environment={"A": "1"},
        python="apptainer exec x.sif python3",
    )
    assert settings.ranks == settings.gpu_count == 4 and settings.job_memory_gb == 6
    submission = Submission(1, 0.0, Kind.slurm, [], {}, {}, [["k"]])
    wanted = parameters(Sweep(tmp_path, {}, [submission]), submission, settings)
    assert (wanted["gpus_per_node"], wanted["mem_per_gpu"], wanted["exclude"]) == ("h100:4", "1536MB", "node7")
    assert "mem" not in wanted and wanted["mail_user"] == "me" and wanted["srun_args"][-1] == "--container-image=x"
    assert environment(tmp_path, settings)["A"] == "1" and "export A=1" in wanted["setup"]
    assert python_of(settings) == "apptainer exec x.sif python3 -P"
    assert python_of(LaunchSettings()) == f"{shlex.quote(sys.executable)} -P"
    place = place_of_jobs(Kind.slurm, settings)
    assert place is not None and place.host.gib == pytest.approx(6e9 / 2**30)
