"""What a sweep needs is fetched and computed before its jobs, and who submits is told what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.packs import point
from support.slurm_jobs import run_here

from experiments import prepare
from experiments.jobs import submit
from tinylora.records.folder import run_folders
from tinylora.settings.files import CACHE_VARIABLE

SWEEP = ["-m", "u=1,13", "rank=2,4", "steps=1", "hydra/launcher=slurm", "launcher.gpus=1", "+cluster=gpus"]


def test_runs_take_the_bases_that_were_prepared_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for _ in range(2):
        assert prepare.main([*SWEEP, f"outputs_dir={tmp_path}/o"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in said] == [
            "model miniature-qwen2",
            "task sums",
            "basis of miniature-qwen2, rank 2",
            "basis of miniature-qwen2, rank 4",
        ]
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/basis").glob("*.safetensors")}
    assert len(made) == 2 and not list(run_folders(tmp_path / "o"))
    run_here(tmp_path / "o", "u=1 rank=4 steps=1")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/basis").glob("*.safetensors")} == made


@pytest.mark.parametrize(
    ("words", "said"),
    [("task=gsm8k task.folder=/nowhere lr=1", "/nowhere"), ("rank=4000", "rank=4000"), ("nope=1", "nope")],
)
def test_what_no_run_could_have_is_refused(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main([*words.split(), f"outputs_dir={tmp_path}/o"]) == 2
    message = capsys.readouterr().err
    assert said in message and "remedy:" in message and "Traceback" not in message


def test_who_submits_is_told_that_jobs_will_fetch_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "check", lambda *given, **options: None)
    submit._check([point(tmp_path)], None)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(submit, "is_here", lambda model: False)
    submit._check([point(tmp_path), point(tmp_path, u=3)], None)
    assert capsys.readouterr().err.count("`python -m experiments.prepare`") == 1
