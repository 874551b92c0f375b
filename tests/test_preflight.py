"""What is found out about a sweep before anything of it is started."""

from pathlib import Path
from typing import Any

import pytest
from packs import point
from sqlalchemy.exc import OperationalError

from tinylora import preflight
from tinylora.config import Demonstrations, ModelConfig, SftConfig, TaskConfig, TrackingConfig
from tinylora.errors import FailureError, TinyLoraError, UsageError
from tinylora.progress import Silent
from tinylora.record import RunFolder, Status
from tinylora.tracking import Mirror
from tinylora.train import run_pack

CASES: dict[str, tuple[dict[str, Any], type[TinyLoraError], str]] = {
    "n_tie beyond the modules": ({"n_tie": 22}, UsageError, "21 adapted modules"),
    "rank beyond the weights": ({"rank": 97}, UsageError, "rank=97"),
    "unknown model": ({"model": ModelConfig("nope"), "lr": 0.1}, UsageError, "miniature-qwen2"),
    "unknown task": ({"task": TaskConfig("nope")}, UsageError, "gsm8k"),
    "no data": ({"task": TaskConfig("gsm8k")}, UsageError, "task.folder"),
    "absent data": ({"task": TaskConfig("gsm8k", folder="/nowhere")}, UsageError, "/nowhere"),
    "absent model folder": ({"model": ModelConfig(path="/nowhere"), "lr": 0.1}, UsageError, "/nowhere"),
    "store that does not answer": ({"tracking": TrackingConfig("http://127.0.0.1:9")}, FailureError, "127.0.0.1:9"),
    "store of no kind": ({"tracking": TrackingConfig("nope://x")}, FailureError, "nope://x"),
    "folder that cannot be made": ({"outputs_dir": "/proc/tinylora"}, FailureError, "outputs_dir=/proc/tinylora"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_point_that_cannot_run_is_refused_with_all_others(case: str, outputs: Path) -> None:
    changes, kind, words = CASES[case]
    with pytest.raises(kind) as caught:
        preflight.check([point(outputs), point(outputs, **changes)])
    assert words in str(caught.value)
    assert caught.value.given and caught.value.rule and caught.value.remedy
    assert {path.name for path in outputs.iterdir()} <= {"mlflow.db"}, "something was started"


def test_demonstrations_that_a_task_lacks_are_refused(outputs: Path, tmp_path: Path) -> None:
    row = '{"id": "%s/%d", "question": "1+%d?", "answer": "%d", "solution": "It is %d.\\n#### %d"}\n'
    for split in ("train", "test"):
        rows = "".join(row % (f"gsm8k-{split}", i, i, 1 + i, 1 + i, 1 + i) for i in range(60))
        (tmp_path / f"gsm8k-{split}.jsonl").write_text(rows)
    task = TaskConfig("gsm8k", folder=str(tmp_path), demonstrations=Demonstrations.foreign)
    preflight.check([point(outputs, task=task, algorithm=SftConfig())])
    own = TaskConfig("gsm8k", folder=str(tmp_path), demonstrations=Demonstrations.own)
    with pytest.raises(UsageError, match="foreign"):
        preflight.check([point(outputs, task=own, algorithm=SftConfig())])


def test_a_store_that_fails_during_training_stops_nothing_and_is_made_up_for(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = point(outputs, steps=2)

    def broken(self: Mirror, folder: RunFolder) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "_push", broken)
        patched.setattr("tinylora.tracking.SECONDS_BETWEEN_PUSHES", 0.0)
        with pytest.raises(FailureError, match="disk is full"):
            run_pack([config], ["a"], Silent())
    assert RunFolder(config).status() is Status.finished
    (record,) = run_pack([config], ["a"], Silent())
    assert record.skipped
    mirror = Mirror(config)
    (found,) = mirror.client.search_runs([mirror.experiment], f"tags.run_key = '{config.run_key}'")
    assert found.data.tags["status"] == "finished"
    assert found.info.status == "FINISHED"
    assert "eval/test/greedy_strict" in found.data.metrics
