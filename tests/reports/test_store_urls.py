"""The address of an MLflow store means one SQLite file, whatever its path is: `?`, `#` and `%` mean something in a URL.

Public reports of addresses and paths of MLflow's stores: mlflow/mlflow#6445, mlflow/mlflow#689.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from support.packs import point, steps_in_mlflow

from experiments import run
from tinylora.records.folder import Status
from tinylora.records.import_runs import sync
from tinylora.records.mirror import Mirror
from tinylora.records.progress import Silent
from tinylora.settings.errors import UsageError
from tinylora.settings.groups import TrackingConfig
from tinylora.settings.paths import as_entered
from tinylora.settings.store_urls import DRIVER, MANAGED, STORE, as_store, file_of, url_of
from tinylora.train.loop import run_pack

ODD = "a?b#c%20d e"
NAMES = (
    "plain", "a?b", "a?b=c", "a#b", "100%", "a%b", "a b", " a ", "a%20b", "a%2520b", "a%3Fb", "äöü ß", "ä%C3%A4",
    "a&b=c", "a;b", "a:b", "@", "u:p@host", "+", "a+b", "~", "'", '"', "\\", "[x]", "{x}", "$HOME", "a,b", "|", "\n",
    "日本", ODD,
)  # fmt: skip
REFUSED = {  # an address: what the message must say of it
    "sqlite:///x?y=1": "%3F",
    "sqlite:///x?": "%3F",
    "sqlite:////x/a?b/mlflow.db": "%3F",
    "sqlite://": "in its memory",
    "sqlite:///": "in its memory",
    "sqlite:///:memory:": "in its memory",
    "sqlite+pysqlite:///:memory:": "in its memory",
    "sqlite://host/x.db": "and nothing else",
    "sqlite:/x.db": "sqlite:///<path>",
    "sqlite:x.db": "sqlite:///<path>",
    "sqlite+aiosqlite:///x.db": "and nothing else",
    "sqlite+pysqlcipher:///x.db": "and nothing else",
    "SQLITE:///x.db": "and nothing else",
    "file:./mlruns": "no longer keeps records in folders",
    "file:///x/mlruns": "no longer keeps records in folders",
    "FILE:///x/mlruns": "no longer keeps records in folders",
    "./mlruns": "no longer keeps records in folders",
    "mlruns": "no longer keeps records in folders",
    "/x/mlflow.db": "no longer keeps records in folders",
    "http://[::1": "IPv6",
}
SERVERS = ("http://localhost:5000", "https://host/a?b=c#d", "postgresql://u:p%40x@host/db?sslmode=require", *MANAGED)


def three_parts(error: UsageError) -> list[str]:
    parts = [error.given, error.rule, error.remedy]
    assert all(part.strip() and "\n" not in part for part in parts)
    return parts


def files_below(folder: Path) -> set[str]:
    """The files of a folder that are neither locks nor what SQLite keeps beside an open store."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths if path.suffix in (".db", ".txt", ".yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_the_address_of_a_file_is_the_address_of_that_file(name: str) -> None:
    for path in (Path("/x", name, STORE), Path("/x", f"{name}.db"), Path("/", name)):
        url = url_of(path)
        assert file_of(url) == path
        assert as_store(url, "tracking.uri") == url, "what is kept is not changed a second time"


@pytest.mark.parametrize("name", NAMES)
def test_sqlalchemy_opens_that_very_file(name: str, tmp_path: Path) -> None:
    import sqlalchemy

    path = tmp_path / name / STORE
    path.parent.mkdir()
    engine = sqlalchemy.create_engine(url_of(path))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table seen (name text)"))
    engine.dispose()
    assert list(tmp_path.rglob("*")) == [path.parent, path]
    kept = sqlite3.connect(path)
    assert kept.execute("select name from sqlite_master").fetchall() == [("seen",)]
    kept.close()


def test_different_files_have_different_addresses() -> None:
    assert len({url_of(Path("/x", name, STORE)) for name in NAMES}) == len(NAMES)


def test_plain_paths_keep_the_plain_address_of_earlier_versions() -> None:
    assert url_of(Path("/x/outputs", STORE)) == "sqlite:////x/outputs/mlflow.db"
    assert url_of(Path("/x/a b", STORE)) == "sqlite:////x/a b/mlflow.db"
    assert url_of(Path("/x/a?b", STORE)) == f"{DRIVER}:////x/a%3Fb/mlflow.db"


@pytest.mark.parametrize("name", NAMES)
def test_the_default_store_lies_in_the_outputs_dir(name: str, tmp_path: Path) -> None:
    config = point(tmp_path / name)
    assert file_of(config.tracking_uri) == tmp_path / name / STORE


@pytest.mark.parametrize("url", [*SERVERS, "nothing", "", "sqlite://", "sqlite:///:memory:", "sqlite:/x"])
def test_what_is_no_file_has_none(url: str) -> None:
    assert file_of(url) is None


@pytest.mark.parametrize("url", SERVERS)
def test_the_address_of_a_server_is_kept_as_it_is(url: str) -> None:
    assert as_store(url, "tracking.uri") == url


def test_the_path_in_an_address_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("real")
    given = (
        "~/real/x.db",
        "real/x.db",
        "./link/../link/x.db",
        f"{tmp_path}/link//x.db",
        "%7E/real/x.db",
        "re%61l/x.db",
    )
    for path in given:
        kept = as_store(f"sqlite:///{path}", "tracking.uri")
        assert kept == f"sqlite:///{tmp_path.resolve()}/real/x.db", path
        assert as_store(f"{DRIVER}:///{path}", "tracking.uri") == kept
    odd = as_store("sqlite:///a%3Fb%23c%2520d e/x.db", "tracking.uri")
    assert file_of(odd) == tmp_path.resolve() / ODD / "x.db"
    entered = as_entered(point(tmp_path, tracking=TrackingConfig(uri="sqlite:///~/link/x.db")))
    assert entered.tracking_uri == f"sqlite:///{tmp_path.resolve()}/real/x.db"


@pytest.mark.parametrize("url", REFUSED)
def test_what_means_no_single_file_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_store(url, "tracking.uri")
    given, rule, remedy = three_parts(caught.value)
    assert given == f"tracking.uri={url}" and REFUSED[url] in rule and "tracking.uri=sqlite:///<path>" in remedy


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a" * 256, "a name in it 255"),
        ("ä" * 128, "a name in it 255"),
        ("a/" * 2100 + "x.db", "at most 4095 bytes"),
        ("x%00.db", "without NUL"),
        ("~no-such-user/x.db", "there is no no-such-user"),
    ],
    ids=["name", "bytes of a name", "path", "NUL", "user"],
)
def test_a_path_that_can_be_none_is_refused_with_its_reason(path: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_store(f"sqlite:///{path}", "tracking.uri")
    given, rule, _ = three_parts(caught.value)
    assert reason in rule and given.startswith("tracking.uri=") and len(given) < 300


@pytest.mark.parametrize("url", ["sqlite:///x?y=1", "sqlite://", "file:./mlruns", f"sqlite:///{'a' * 256}"])
def test_a_run_with_such_a_store_is_refused_before_anything_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run.py", f"tracking.uri='{url}'"])
    assert run.main() == 2
    said = capsys.readouterr()
    given, rule, remedy = said.err.splitlines()
    assert given.startswith("error: tracking.uri=") and rule.startswith("  rule:") and remedy.startswith("  remedy:")
    assert said.out == "" and list(tmp_path.iterdir()) == []


def test_mlflow_opens_the_store_of_the_outputs_dir_and_no_other(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlflow/mlflow#6445, mlflow/mlflow#689: with its artifacts beside it."""
    place, outputs = tmp_path / "place", tmp_path / "place" / ODD
    outputs.mkdir(parents=True)
    monkeypatch.chdir(place)
    shutil.copy(empty_store, outputs / STORE)
    mirror = Mirror(point(outputs))
    run_id = mirror.client.create_run(mirror.experiment).info.run_id
    mirror.client.log_text(run_id, "said", "note.txt")
    store = sqlite3.connect(outputs / STORE)
    assert store.execute("select run_uuid from runs").fetchall() == [(run_id,)]
    store.close()
    assert mirror.file == outputs / STORE and [path.name for path in place.iterdir()] == [ODD]
    found = files_below(outputs)
    assert found == {STORE, f"mlflow-artifacts/{run_id}/artifacts/note.txt"}
    assert [file.path for file in mirror.client.list_artifacts(run_id)] == ["note.txt"]


@pytest.mark.slow
def test_mlflow_makes_the_store_there_and_keeps_a_run_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, outputs = tmp_path / "place", tmp_path / "place" / ODD
    place.mkdir()
    monkeypatch.chdir(place)
    config = point(outputs, steps=1)
    (record,) = run_pack([config], ["a"], Silent())
    assert record.status is Status.finished and steps_in_mlflow(config) == [0, 1]
    assert [path.name for path in place.iterdir()] == [ODD], "no other folder was made"
    assert [path for path in place.rglob("*.db")] == [outputs / STORE]
    assert (outputs / "mlflow-artifacts").is_dir() and sync(outputs).problems == []
