"""A damaged mlflow.db is named with what mends it, is moved by that command alone, and comes back from run folders."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command as alembic
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from support.packs import point, steps_in_mlflow
from support.records import make_folder

from analysis import build
from experiments import sync as command
from tinylora.records import sqlite_store
from tinylora.records.folder import RunFolder
from tinylora.records.import_runs import sync
from tinylora.records.mirror import Mirror
from tinylora.settings.errors import FailureError

PAGE = 4096


def run_sql(*statements: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            for statement in statements:
                database.execute(statement)

    return act


def written(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return act


def other_pages(content: bytes) -> bytes:
    """Every third page is noise; not the first."""
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    return b"".join(random.Random(0).randbytes(PAGE) if n % 3 == 1 else page for n, page in enumerate(pages))


def with_journals(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(50_000))
    for ending in ("-wal", "-journal"):
        Path(f"{path}{ending}").write_bytes(b"left by a kill")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "random bytes": written(lambda content: random.Random(0).randbytes(len(content))),
    "zeros": written(lambda content: bytes(len(content))),
    "a cut file": written(lambda content: content[: len(content) // 3]),
    "a few bytes": written(lambda content: content[:50]),
    "other pages": written(other_pages),
    "flipped text in the schema": written(lambda content: content.replace(b"CREATE TABLE", b"CREATE TA\xc6LE")),
    "no metrics": run_sql("DROP TABLE metrics"),
    "no runs": run_sql("DROP TABLE runs"),
    "no table of MLflow's that we do not read": run_sql("DROP TABLE datasets"),
    "no version": run_sql("DROP TABLE alembic_version"),
    "no column": run_sql("ALTER TABLE runs DROP COLUMN deleted_time"),
    "half upgraded": run_sql("UPDATE alembic_version SET version_num = '451aebb31d03'"),
    "with journals": with_journals,
}


@pytest.fixture
def mirrored(outputs: Path) -> list[RunFolder]:
    folders = [make_folder(outputs, (0.1, 0.2), seed=seed) for seed in (0, 1)]
    assert sync(outputs).problems == []
    return folders


def damage(outputs: Path, kind: str) -> None:
    path = (outputs / "mlflow.db").resolve()
    DAMAGES[kind](path)
    sqlite_store.forget(path)  # another process finds it so


FAST = ("random bytes", "a cut file", "no column")


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in DAMAGES]
)
def test_it_is_named_and_made_anew_on_demand_alone(
    kind: str, mirrored: list[RunFolder], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(outputs, kind)
    before = {path.name: path.read_bytes() for path in outputs.glob("mlflow.db*")}
    words = f"python -m experiments.sync --rebuild --outputs-dir {outputs}"
    with pytest.raises(FailureError, match="is damaged") as caught:
        Mirror(point(outputs))  # what a run does
    assert words in caught.value.remedy
    assert words in " ".join(sync(outputs).problems), "what status shows"
    assert command.main(["--outputs-dir", str(outputs)]) == 1
    build.main(["--outputs-dir", str(outputs), "--out", str(outputs / "report")])
    assert words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in outputs.glob("mlflow.db*")} == before, "something was moved"
    assert command.main(["--outputs-dir", str(outputs), "--rebuild"]) == 0
    assert "is kept as mlflow.db.damaged" in capsys.readouterr().out
    assert (outputs / "mlflow.db.damaged").read_bytes() == before["mlflow.db"]
    assert [steps_in_mlflow(folder.config) for folder in mirrored] == [[0, 1], [0, 1]]
    assert len(before) == len(list(outputs.glob("mlflow.db.damaged*")))


@pytest.mark.slow
def test_nothing_is_ever_deleted(mirrored: list[RunFolder], outputs: Path) -> None:
    for _ in range(3):
        damage(outputs, "random bytes")
        assert command.main(["--outputs-dir", str(outputs), "--rebuild"]) == 0
    names = sorted(path.name for path in outputs.glob("mlflow.db*"))
    assert names == ["mlflow.db", "mlflow.db.damaged", "mlflow.db.damaged-1", "mlflow.db.damaged-2"]


def test_runs_that_have_no_folder_are_counted_before_they_would_be_lost(
    mirrored: list[RunFolder], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(mirrored[1].path)
    client = MlflowClient(f"sqlite:///{(outputs / 'mlflow.db').resolve()}")
    client.create_run("0")  # someone else's
    said = "of the 3 runs in it, 2 have no run folder there"
    assert command.main(["--outputs-dir", str(outputs), "--rebuild"]) == 1, "it is whole: nothing is given up"
    assert said in capsys.readouterr().err and not (outputs / "mlflow.db.damaged").exists()
    damage(outputs, "no column")
    with pytest.raises(FailureError) as caught:
        Mirror(point(outputs))
    assert said in str(caught.value)
    assert command.main(["--outputs-dir", str(outputs), "--rebuild"]) == 0
    assert said in capsys.readouterr().out
    assert [steps_in_mlflow(folder.config) for folder in mirrored[:1]] == [[0, 1]]


def test_a_whole_store_of_run_folders_can_be_made_anew(mirrored: list[RunFolder], outputs: Path) -> None:
    assert command.main(["--outputs-dir", str(outputs), "--rebuild"]) == 0
    assert (outputs / "mlflow.db.damaged").exists()
    assert [steps_in_mlflow(folder.config) for folder in mirrored] == [[0, 1], [0, 1]]


def test_a_process_that_has_the_old_file_open_goes_on_in_the_new_one(mirrored: list[RunFolder], outputs: Path) -> None:
    config = mirrored[0].config
    writer = Mirror(config)
    writer.push(mirrored, final=True)
    kept = sqlite_store.set_aside(Path(outputs / "mlflow.db").resolve(), "damaged")
    before = kept.read_bytes()
    writer.push(mirrored, final=True)
    assert kept.read_bytes() == before
    assert [steps_in_mlflow(folder.config) for folder in mirrored] == [[0, 1], [0, 1]]


def test_journals_beside_no_store_are_not_played_into_a_new_one(outputs: Path) -> None:
    (outputs / "mlflow.db").unlink()
    (outputs / "mlflow.db-journal").write_bytes(b"left by a kill")
    Mirror(point(outputs))
    assert (outputs / "mlflow.db.half-made-journal").read_bytes() == b"left by a kill"


def test_a_store_of_an_earlier_mlflow_is_brought_up_to_date(mirrored: list[RunFolder], outputs: Path) -> None:
    """Its schema is changed in a copy, so that a kill leaves the old one."""

    path = (outputs / "mlflow.db").resolve()
    sqlite_store.forget(path)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    config = _get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.downgrade(config, sqlite_store._versions()[1])
    engine.dispose()
    assert sqlite_store.damage_of(path) is None
    assert [steps_in_mlflow(folder.config) for folder in mirrored] == [[0, 1], [0, 1]]
