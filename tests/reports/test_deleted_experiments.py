"""An MLflow experiment that takes no runs is refused before anything is trained, with what to do; deleted runs return.

The public report behind the checks of the artifacts' folder is ansible/ansible#68007.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support.packs import point, steps_in_mlflow
from support.records import make_folder

from analysis import build
from experiments import sync as command
from tinylora.records.import_runs import sync
from tinylora.records.mirror import Mirror
from tinylora.records.store_check import LONGEST_PATH, check_experiment, local_folder
from tinylora.settings.config import RunConfig, TrackingConfig
from tinylora.settings.errors import FailureError, UsageError
from tinylora.train import preflight

LEFT = {"mlflow.db", ".mlflow.db.lock"}
"""What may lie in an outputs_dir where nothing was begun."""
NAME = "tinylora"


def client_of(outputs: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{outputs / 'mlflow.db'}")


def delete(outputs: Path, name: str = NAME) -> str:
    """Delete an experiment, which is made if it is not there; its id."""
    client = client_of(outputs)
    found = client.get_experiment_by_name(name)
    artifacts = (outputs / "mlflow-artifacts").as_uri()
    number = found.experiment_id if found else client.create_experiment(name, artifact_location=artifacts)
    client.delete_experiment(number)
    return str(number)


def in_experiment(outputs: Path, name: str, **changes: object) -> RunConfig:
    return point(outputs, tracking=TrackingConfig(experiment=name), **changes)


def assert_says_how_to_restore(error: UsageError, number: str, name: str = NAME) -> None:
    assert f"experiment {name} in " in error.given and "deleted" in error.given
    assert f"mlflow experiments restore --experiment-id {number}`" in error.remedy
    assert "tracking.experiment=" in error.remedy and error.rule


@pytest.mark.parametrize("in_jobs", [False, True], ids=["here", "in jobs"])
def test_a_sweep_is_refused_before_a_run_folder_is_made(in_jobs: bool, outputs: Path) -> None:
    number = delete(outputs)
    with pytest.raises(UsageError) as caught:
        preflight.check([point(outputs)], in_jobs=in_jobs)
    assert_says_how_to_restore(caught.value, number)
    assert {path.name for path in outputs.iterdir()} <= LEFT
    client_of(outputs).restore_experiment(number)
    preflight.check([point(outputs)], in_jobs=in_jobs)


@pytest.mark.parametrize("in_jobs", [False, True], ids=["here", "in jobs"])
def test_each_experiment_of_a_sweep_is_checked(in_jobs: bool, outputs: Path) -> None:
    for name in ("first", "last"):
        number = delete(outputs, name)
        configs = [in_experiment(outputs, each) for each in ("first", "middle", "last")]
        with pytest.raises(UsageError) as caught:
            preflight.check(configs, in_jobs=in_jobs)
        assert_says_how_to_restore(caught.value, number, name)
        client_of(outputs).restore_experiment(number)
    preflight.check(configs, in_jobs=in_jobs)


def test_a_store_that_was_given_is_checked_before_an_outputs_dir_is_made(outputs: Path) -> None:
    number = delete(outputs)
    tracking = TrackingConfig(f"sqlite:///{outputs / 'mlflow.db'}")
    with pytest.raises(UsageError) as caught:
        preflight.check([point(outputs / "runs", tracking=tracking)])
    assert_says_how_to_restore(caught.value, number)
    assert not (outputs / "runs").exists()


def test_a_mirror_of_it_is_refused_until_it_is_restored(outputs: Path) -> None:
    number = delete(outputs)
    with pytest.raises(UsageError) as caught:
        Mirror(point(outputs))
    assert_says_how_to_restore(caught.value, number)
    client_of(outputs).restore_experiment(number)
    assert Mirror(point(outputs)).experiment == number


def test_one_that_is_deleted_while_a_run_trains_is_told_at_its_end(outputs: Path) -> None:
    folder = make_folder(outputs)
    mirror = Mirror(folder.config)
    number = delete(outputs)
    with pytest.raises(UsageError) as caught:
        mirror.push([folder], final=True)
    assert_says_how_to_restore(caught.value, number)
    client_of(outputs).restore_experiment(number)
    mirror.push([folder], final=True)
    assert steps_in_mlflow(folder.config) == [0, 1]


def test_sync_names_it_imports_the_others_and_later_the_rest(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = make_folder(outputs, tracking=TrackingConfig(experiment="kept"))
    folder, number = make_folder(outputs, seed=1), delete(outputs)
    assert command.main(["--outputs-dir", str(outputs)]) == 1
    output, message = capsys.readouterr()
    assert output == "1 runs are in MLflow as in their folders\n" and message.startswith("not imported: ")
    assert f"mlflow experiments restore --experiment-id {number}`" in message and "tracking.experiment=" in message
    assert steps_in_mlflow(kept.config) == [0, 1]
    client_of(outputs).restore_experiment(number)
    assert command.main(["--outputs-dir", str(outputs)]) == 0
    assert steps_in_mlflow(folder.config) == [0, 1]


def test_a_report_of_it_is_refused(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = delete(outputs)
    report = outputs / "report"
    for words in (["--outputs-dir", str(outputs)], ["--uri", f"sqlite:///{outputs / 'mlflow.db'}"]):
        assert build.main([*words, "--out", str(report)]) == 2
        message = capsys.readouterr().err
        assert f"mlflow experiments restore --experiment-id {number}`" in message and "tracking.experiment=" in message
        assert list(report.iterdir()) == []
    client_of(outputs).restore_experiment(number)
    assert build.main(["--outputs-dir", str(outputs), "--out", str(report)]) == 1
    message = capsys.readouterr().err
    assert "no finished run" in message and "restore" not in message


def test_a_deleted_run_is_mirrored_anew(outputs: Path) -> None:
    folder = make_folder(outputs)
    assert sync(outputs).runs == 1
    client = client_of(outputs)
    found = client.get_experiment_by_name(NAME)
    assert found is not None
    number = found.experiment_id
    asked = f"tags.run_key = '{folder.config.run_key}'"
    (before,) = client.search_runs([number], asked)
    client.delete_run(before.info.run_id)
    assert client.search_runs([number], asked) == []
    assert sync(outputs).problems == []
    (after,) = client.search_runs([number], asked)
    assert after.info.run_id != before.info.run_id and after.data.params == before.data.params
    assert after.info.status == "FINISHED" and steps_in_mlflow(folder.config) == [0, 1]
    assert client.get_run(before.info.run_id).info.lifecycle_stage == "deleted"


def test_a_name_is_as_long_as_mlflow_takes_it(outputs: Path) -> None:
    for length in (499, 500):
        assert Mirror(in_experiment(outputs, "e" * length)).experiment
    with pytest.raises(UsageError, match=r"tracking\.experiment=e+.*\n.*at most 500 characters") as caught:
        preflight.check([in_experiment(outputs, "e" * 501)])
    assert "tracking.experiment=" in caught.value.remedy
    assert {path.name for path in outputs.iterdir()} <= LEFT


@pytest.mark.parametrize("in_jobs", [False, True], ids=["here", "in jobs"])
def test_artifacts_that_have_no_place_are_refused_before_training(in_jobs: bool, outputs: Path) -> None:
    """ansible/ansible#68007."""
    Mirror(point(outputs))
    (outputs / "mlflow-artifacts").write_text("not a folder")
    with pytest.raises(UsageError, match=r"mlflow-artifacts is no folder") as caught:
        preflight.check([point(outputs)], in_jobs=in_jobs)
    assert "tracking.experiment" in caught.value.remedy
    assert {path.name for path in outputs.iterdir()} <= LEFT | {"mlflow-artifacts"}
    (outputs / "mlflow-artifacts").unlink()
    preflight.check([point(outputs)], in_jobs=in_jobs)


@pytest.mark.parametrize("in_jobs", [False, True], ids=["here", "in jobs"])
def test_an_artifact_folder_without_permission_is_refused(in_jobs: bool, outputs: Path) -> None:
    """ansible/ansible#68007."""
    Mirror(point(outputs))
    folder = outputs / "mlflow-artifacts"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("permission bits do not bind this user")
    with pytest.raises(UsageError, match=r"mlflow-artifacts cannot be written to"):
        preflight.check([point(outputs)], in_jobs=in_jobs)
    folder.chmod(0o700)
    preflight.check([point(outputs)], in_jobs=in_jobs)


def test_an_error_of_sqlite_while_the_place_of_artifacts_is_asked_for_is_a_failure(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: MlflowClient, experiment_id: str) -> None:
        raise MlflowException("(sqlite3.OperationalError) disk I/O error")

    monkeypatch.setattr(MlflowClient, "get_experiment", broken)
    with pytest.raises(FailureError, match="disk I/O error") as caught:
        preflight.check([point(outputs)])
    assert caught.value.given.startswith("tracking.uri=") and caught.value.remedy


def test_a_look_at_a_store_makes_none_and_leaves_damage_to_the_writer(tmp_path: Path) -> None:
    absent, damaged = tmp_path / "absent.db", tmp_path / "damaged.db"
    damaged.write_bytes(b"not a database" * 100)
    for file in (absent, damaged):
        check_experiment(file, NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.db"]
    with pytest.raises(UsageError, match=f"more than {LONGEST_PATH} bytes"):
        check_experiment(tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200), NAME)


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("/a/b c", "/a/b c"),
        ("file:///a/b%20c", "/a/b c"),
        ("file://localhost/a", "/a"),
        ("file://elsewhere/a", None),
        ("s3://bucket/a", None),
        ("mlflow-artifacts:/1", None),
    ],
)
def test_folders_of_this_machine_alone_are_looked_at(location: str, folder: str | None) -> None:
    assert local_folder(location) == (None if folder is None else Path(folder))
