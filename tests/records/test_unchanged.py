"""What has not changed is not read again; whatever has changed, on either side, is compared as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.records import make_folder

from tinylora.records import import_runs
from tinylora.records.folder import METRICS, RunFolder, Status
from tinylora.records.import_runs import sync
from tinylora.records.mirror import Mirror


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the folders that are read, from now on."""
    monkeypatch.setenv("TINYLORA_CACHE", str(tmp_path_factory.mktemp("cache")))
    names: list[str] = []
    damage_of = import_runs.damage_of

    def counting(folder: RunFolder) -> str | None:
        names.append(folder.path.name)
        return damage_of(folder)

    monkeypatch.setattr(import_runs, "damage_of", counting)
    return names


def found(folder: RunFolder) -> list[Any]:
    mirror = Mirror(folder.config)
    return list(mirror.client.search_runs([mirror.experiment], f"tags.run_key = '{folder.config.run_key}'"))


def read_by(outputs: Path, looked_at: list[str]) -> set[str]:
    looked_at.clear()
    synced = sync(outputs)
    assert synced.runs + len(synced.damaged) == len(list(import_runs.run_folders(outputs)))
    return set(looked_at)


def test_what_has_ended_and_stays_is_read_once(outputs: Path, looked_at: list[str]) -> None:
    one, two = (make_folder(outputs, seed=seed) for seed in (0, 1))
    going = make_folder(outputs, status=None, seed=2)
    names = {folder.path.name for folder in (one, two, going)}
    assert read_by(outputs, looked_at) == names
    for _ in range(2):
        assert read_by(outputs, looked_at) == {going.path.name}
    going.conclude(Status.finished, None, {})
    three = make_folder(outputs, seed=3)
    assert read_by(outputs, looked_at) == {going.path.name, three.path.name}
    assert read_by(outputs, looked_at) == set()
    assert [len(found(folder)) for folder in (one, two, going, three)] == [1] * 4


def test_a_changed_folder_is_read_and_a_damaged_one_named_each_time(outputs: Path, looked_at: list[str]) -> None:
    one, two = (make_folder(outputs, seed=seed) for seed in (0, 1))
    sync(outputs)
    content = (one.path / METRICS).read_bytes()
    (one.path / METRICS).write_bytes(content[:-5])
    for _ in range(2):
        synced = sync(outputs)
        assert list(synced.damaged) == [one.path.name]
        assert synced.runs == 1
    (one.path / METRICS).write_bytes(content)
    assert read_by(outputs, looked_at) == {one.path.name}
    assert sync(outputs).runs == 2
    assert two.path.name not in looked_at


def test_a_store_that_was_changed_is_compared_and_mended(outputs: Path, looked_at: list[str]) -> None:
    one, two = (make_folder(outputs, seed=seed) for seed in (0, 1))
    sync(outputs)
    mirror = Mirror(one.config)
    mirror.client.delete_run(found(one)[0].info.run_id)
    assert found(one) == []
    assert read_by(outputs, looked_at) == {one.path.name, two.path.name}
    assert len(found(one)) == 1
    (outputs / "mlflow.db").unlink()
    assert read_by(outputs, looked_at) == {one.path.name, two.path.name}
    assert [len(found(folder)) for folder in (one, two)] == [1, 1]


def test_another_store_of_a_run_is_no_matter_of_this_one(outputs: Path, tmp_path: Path, looked_at: list[str]) -> None:
    from tinylora.settings.config import TrackingConfig

    own = make_folder(outputs)
    other = make_folder(outputs, seed=1, tracking=TrackingConfig(uri=f"sqlite:///{tmp_path}/other.db"))
    sync(outputs)
    sync(outputs, servers=True)
    looked_at.clear()
    sync(outputs, servers=True)
    assert set(looked_at) == {other.path.name}
    assert len(found(own)) == 1


def test_what_is_remembered_can_be_damaged_or_impossible(
    outputs: Path, looked_at: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_folder(outputs)
    sync(outputs)
    from tinylora.settings.files import cache_folder

    (file,) = (cache_folder() / "mirrored").iterdir()
    for content in (b"", b"[]", b'{"store": 1}', b'{"store": [], "folders": {}}', b'{"store": null, "folders": 3}'):
        file.write_bytes(content)
        assert read_by(outputs, looked_at) == {one.path.name}
    (tmp_path / "no-folder").write_text("")
    monkeypatch.setenv("TINYLORA_CACHE", str(tmp_path / "no-folder"))
    for _ in range(2):
        assert read_by(outputs, looked_at) == {one.path.name}
