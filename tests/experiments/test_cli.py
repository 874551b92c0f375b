"""The command line: what it answers, what it refuses and how, what it starts, and what it leaves on the disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments import run
from tinylora.records.folder import RunRecord, Status
from tinylora.records.progress import Progress
from tinylora.records.stopping import StopRequest
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, UsageError

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "mlflow", "pandas")

BAD_VALUES = {  # command line: what the message must name
    "model=nope": ["model=nope", "miniature-llama", "miniature-qwen2", "smollm2-135m"],
    "model=miniature-qwen2,nope": ["model=nope", "miniature-llama"],
    "task=nope": ["task=nope", "gsm8k", "sums"],
    "hydra/launcher=nope": ["hydra/launcher=nope", "pack", "basic"],
    "u=abc": ["u=abc", "whole number", "u=13"],
    "u=1,abc": ["u=abc", "whole number"],
    "u=null": ["u=null", "whole number"],
    "u=0": ["u=0", "at least 1"],
    "seed=-1": ["seed=-1", "at least 0"],
    "steps=1e2": ["steps=1e2", "whole number"],
    "n_tie=1.5": ["n_tie=1.5", "`all`"],
    "lr=abc": ["lr=abc", "`auto`"],
    "lr=[1]": ["lr=[1]", "`auto`"],
    "precision=fp8": ["precision=fp8", "fp32, bf16, fp16"],
    "precision=fp32,fp8": ["precision=fp8", "fp32, bf16, fp16"],
    "sharing=diagonal": ["sharing=diagonal", "tiled, structured"],
    "sharing=diagonal n_tie=1": ["sharing=diagonal", "tiled, structured"],
    "on_no_signal=halt": ["on_no_signal=halt", "warn, stop", "give on_no_signal="],
    "algorithm=sft on_no_signal=stop": ["on_no_signal=stop", "algorithm=grpo"],
    "foo=3": ["foo=3", "no setting `foo`", "precision"],
    "+foo=3": ["foo=3", "no setting `foo`"],
    "modle=miniature-llama": ["modle=miniature-llama", "did you mean model?"],
    "model.dtpe=bf16": ["model.dtpe=bf16", "did you mean model.dtype?"],
    "samples=4": ["samples=4", "did you mean eval.samples?"],
    "algorithm=sft algorithm.samples=3": ["algorithm.samples=3", "name, prompts"],
    "algorithm.name=sft": ["algorithm.name=sft", "algorithm=sft"],
    "task=gsm8k": ["lr=auto", "gsm8k/grpo"],
    "outputs_dir=${oc.env:NO_SUCH_VARIABLE}": ["NO_SUCH_VARIABLE"],
    "rollout.max_new_tokens=${nothing}": ["nothing"],
    "model.name=???": ["name"],
    "u": ["u", "name=value"],
    "u==2": ["u==2", "name=value"],
    "u=[1": ["name=value", "quotes"],
    "u=interval(1,3)": ["INTERVAL"],
    "+model=miniature-llama": ["model"],
    "launcher.gpus=1": ["launcher.gpus=1", "hydra/launcher=slurm"],
    "hydra/launcher=slurm launcher.partiton=x": ["launcher.partiton=x", "give launcher.partition="],
    "hydra/launcher=local launcher.minutes=0": ["launcher.minutes=0", "at least 1"],
    "hydra/launcher=local tracking.uri=sqlite:///x.db": ["/x.db with jobs", "many writers"],
    "--nope": ["--nope"],
    "--cfg nope": ["nope", "'job'"],
    "--cfg job u=1,2": ["u=1,2", "one point"],
    "--cfg job -m": ["--multirun --cfg"],
    "--resolve": ["--resolve"],
    "-sc": ["-sc", "install="],
    "--config-name nope": ["nope"],
    "--config-dir no/such/folder": ["no/such/folder"],
    "--minutes soon": ["--minutes soon", "number of minutes"],
    "--minutes": ["--minutes"],
    "--minutes 9 hydra/launcher=local": ["--minutes 9 with hydra/launcher=local", "launcher.minutes=9"],
    "--points no/such/file": ["no/such/file", "experiments.plan --write"],
}


def command(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "experiments.run", *line.split()]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    return tmp_path


class Started:
    """Stands in for the training: keeps what would be trained, and lets the runs of some seeds fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packs: list[list[int]] = []
        self.labels: list[str] = []
        self.failing_seeds: set[int] = set()
        self.refusal: Exception | None = None
        monkeypatch.setattr("tinylora.train.preflight.check", self.check)
        monkeypatch.setattr("tinylora.train.loop.run_pack", self.run_pack)

    def check(self, configs: Sequence[RunConfig], in_jobs: bool) -> list[str]:
        if self.refusal is not None:
            raise self.refusal
        return []

    def run_pack(
        self, configs: Sequence[RunConfig], labels: Sequence[str], progress: Progress, mirror: None, stop: StopRequest
    ) -> list[RunRecord]:
        progress.phase("training")
        self.packs.append([config.u for config in configs])
        self.labels += labels
        return [self.record(config) for config in configs]

    def record(self, config: RunConfig) -> RunRecord:
        summary = {"trained_values": float(config.u), "base/eval/test/sampled_strict": 0.25}
        if config.seed in self.failing_seeds:
            return RunRecord(config, Status.failed, "the loss is nan", False, summary)
        return RunRecord(config, Status.finished, None, False, summary | {"eval/test/greedy_strict": 0.875})


@pytest.fixture
def started(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


def call(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run.py", *line.split()])
    return run.main()


def assert_three_parts(message: str) -> None:
    given, rule, remedy = message.splitlines()
    assert given.startswith("error: ") and given.removeprefix("error: ").strip()
    assert rule.startswith("  rule:   ") and rule.removeprefix("  rule:   ").strip()
    assert remedy.startswith("  remedy: ") and remedy.removeprefix("  remedy: ").strip()


@pytest.mark.parametrize("line", BAD_VALUES)
def test_bad_input_is_one_message_and_leaves_nothing(
    line: str, started: Started, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, line) == 2
    output, message = capsys.readouterr()
    assert output == ""
    assert_three_parts(message)
    for part in BAD_VALUES[line]:
        assert part in message
    assert started.packs == [] and list(in_folder.iterdir()) == []


@pytest.mark.parametrize("line", ["u=abc", "-m precision=fp32,fp8", "model=nope", "u=13 steps=0"])
def test_bad_input_as_a_command(line: str, tmp_path: Path) -> None:
    ended = command(line, tmp_path)
    assert ended.returncode == 2 and ended.stdout == ""
    assert_three_parts(ended.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("launcher", ["pack", "basic"])
def test_one_bad_point_keeps_the_whole_sweep_from_starting(
    launcher: str, started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, f"-m u=1,2,0 hydra/launcher={launcher}") == 2
    assert "error: u=0" in capsys.readouterr().err and started.packs == []


@pytest.mark.parametrize("line", ["--help", "--cfg job", "-sc install=bash"])
def test_answers_need_no_heavy_import(line: str, tmp_path: Path) -> None:
    program = (
        "import atexit, sys; from experiments.run import main; "
        f"atexit.register(lambda: print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))); main()"
    )
    words = [sys.executable, "-c", program, *line.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "HEAVY []"
    assert ended.stderr == "" and list(tmp_path.iterdir()) == []


def test_help_names_groups_axes_and_a_sweep(tmp_path: Path) -> None:
    text = command("--help", tmp_path).stdout
    models = ("model: hub, llama-3.1-8b-instruct, ", "miniature-qwen2, qwen2.5-0.5b-instruct, ")
    for part in (*models, "algorithm: grpo, random_search, sft", "n_tie", "-m u=1,13"):
        assert part in text


def test_the_shown_config_is_that_of_the_point(tmp_path: Path) -> None:
    text = command("--cfg job u=7 algorithm=sft", tmp_path).stdout
    assert "u: 7\n" in text and "  name: sft\n" in text and "hydra" not in text


def test_completion_offers_groups_options_and_settings(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(line: str) -> set[str]:
        monkeypatch.setenv("COMP_LINE", f"experiments.run {line}")
        return set(command("-sc query=bash", in_folder).stdout.split())

    assert {"model=miniature-llama", "model=miniature-qwen2"} <= offered("u=3 model=")
    assert "algorithm.samples=" in offered("algorithm.sa")


def test_a_sweep_runs_all_points_in_one_pack(
    started: Started, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "-m u=1,13 precision=fp32,bf16") == 0
    output, progress = capsys.readouterr()
    assert started.packs == [[1, 1, 13, 13]]
    assert started.labels == ["u=1 fp32", "u=1 bf16", "u=13 fp32", "u=13 bf16"]
    rows = [line for line in output.splitlines() if line.startswith(" u=")]
    assert [row.split()[:2] for row in rows] == [label.split() for label in started.labels]
    assert all("0.250" in row and "-> 0.875" in row for row in rows)
    assert "checking 4 runs" in progress and list(in_folder.iterdir()) == []


def test_a_single_run_is_a_sweep_of_one(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "u=5") == 0
    assert started.packs == [[5]] and started.labels == ["u=5 fp32 seed=0"]


def test_packs_are_as_large_as_asked_for(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "-m u=range(1,6) pack.max_lanes=2") == 0
    assert started.packs == [[1, 2], [3, 4], [5]]


def test_the_basic_launcher_starts_points_one_by_one(
    started: Started, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "-m u=1,2 hydra/launcher=basic") == 0
    assert started.packs == [[1], [2]]
    assert Path.cwd() == in_folder and list(in_folder.iterdir()) == []


def test_a_run_asked_for_twice_runs_once(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "-m u=3,3 pack.max_lanes=4,5") == 0
    assert started.packs == [[3]]
    assert "3 of 4 points repeat another one" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["pack", "basic"])
def test_a_failed_run_fails_the_command_after_the_others(
    launcher: str, started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started.failing_seeds = {1}
    assert call(monkeypatch, f"-m seed=0,1,2 hydra/launcher={launcher}") == 1
    output, progress = capsys.readouterr()
    assert re.findall(r"^ .*seed=(\d) .*->", output, re.MULTILINE) == ["0", "1", "2"]
    assert "failed: the loss is nan" in output
    assert_three_parts(progress[progress.index("error: ") :])
    assert "did not finish" in progress


@pytest.mark.parametrize("launcher", ["pack", "basic"])
def test_errors_of_ours_end_with_their_status(
    launcher: str, started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for refusal, status in ((UsageError("this", "that", "those"), 2), (FailureError("this", "that", "those"), 1)):
        started.refusal = refusal
        assert call(monkeypatch, f"hydra/launcher={launcher}") == status
        message = capsys.readouterr().err
        assert message[message.index("error: ") :] == "error: this\n  rule:   that\n  remedy: those\n"


def test_minutes_that_are_over_before_a_pack_leave_it_to_the_same_command(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for launcher in ("pack", "basic"):
        assert call(monkeypatch, f"--minutes 0 -m u=1,2 hydra/launcher={launcher}") == 3
        assert "the same command goes on from here" in capsys.readouterr().err and started.packs == []
    assert call(monkeypatch, "-m u=1,2 --minutes 9") == 0 and started.packs == [[1, 2]]


def test_a_bug_shows_its_traceback(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    started.refusal = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        call(monkeypatch, "u=1")


def test_an_interrupt_says_how_to_go_on(
    started: Started, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tinylora.train.loop.run_pack", interrupt)
    assert call(monkeypatch, "u=1") == 130
    assert capsys.readouterr().err.endswith("interrupted; the same command resumes\n")


def test_records_stand_in_the_order_of_the_points(started: Started) -> None:
    from experiments.sweep import run_sweep
    from tinylora.settings.config import ModelConfig

    constants = {"sums/grpo": 0.15}
    models = [ModelConfig(name=name, lr_constants=constants) for name in ("miniature-qwen2", "miniature-llama")]
    points = [RunConfig(u=u, model=model) for u in (1, 2) for model in models]
    assert [record.config for record in run_sweep(points)] == points
    assert started.packs == [[1, 2], [1, 2]]
