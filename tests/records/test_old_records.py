"""Run folders of earlier versions: read, left alone by the same command, and refused by name where they are damaged or
have not ended.

Those of the study's archive are older than `recipe`, the splitting of this package into rooms, and much else.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.packs import At, interrupt, point
from support.study_store import RECIPE_1

from experiments.sweep import run_sweep
from tinylora.records import archive
from tinylora.records.folder import (
    CONFIG,
    METRICS,
    STATE,
    SUMMARY,
    RunFolder,
    Status,
    Unmirrored,
    read_config,
    run_folders,
)
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError
from tinylora.train import loop
from tinylora.train.loop import run_pack


@pytest.fixture(scope="module")
def archived() -> dict[str, dict[str, bytes]]:
    """Runs by run key: of both models, both algorithms and several adapters."""
    runs = archive.read(RECIPE_1)
    return {key: runs[key] for key in sorted(runs)[::2]}


@pytest.fixture
def old(archived: dict[str, dict[str, bytes]], tmp_path: Path) -> list[RunConfig]:
    for key, files in archived.items():
        (tmp_path / key).mkdir()
        for name, content in files.items():
            (tmp_path / key / name).write_bytes(content)
    return [read_config(path, tmp_path) for path in run_folders(tmp_path)]


def test_old_run_folders_are_read(old: list[RunConfig]) -> None:
    assert {config.algorithm.name.value for config in old} == {"grpo", "sft"}
    assert len({config.model.name for config in old}) == 2 and len({config.adapter.name for config in old}) >= 3
    for config in old:
        folder = RunFolder(config)
        folder.check()
        assert config.recipe == 1 and folder.status() is Status.finished
        assert folder.lines()[-1].step == config.training_steps
        assert "eval/test/greedy_strict" in folder.record(skipped=True).summary


def test_the_same_command_leaves_old_runs_alone(
    old: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "PackRun", lambda *_: pytest.fail("a finished run was opened"))
    before = {path: path.read_bytes() for config in old for path in config.folder.glob("*.*")}
    records = run_sweep(old, mirror=Unmirrored())
    assert [(record.skipped, record.status) for record in records] == [(True, Status.finished)] * len(old)
    assert capsys.readouterr().out.count("finished before") == len(old)
    assert {path: path.read_bytes() for path in before} == before, "a record was written anew"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (CONFIG, "{"),
        (CONFIG, "run_key: 0123456789ab\n"),
        (SUMMARY, '{"status": "splendid", "reason": null}'),
        (SUMMARY, '{"status": '),
        (METRICS, ""),
    ],
)
def test_a_damaged_old_run_is_set_aside_by_name(name: str, content: str, old: list[RunConfig]) -> None:
    (old[2].folder / name).write_text(content)
    records = run_sweep(old, mirror=Unmirrored())
    assert [record.status is Status.damaged for record in records] == [config is old[2] for config in old]
    assert str(old[2].folder / name) in (records[2].reason or "")


def test_a_damaged_state_of_a_finished_run_does_not_matter(old: list[RunConfig]) -> None:
    (old[2].folder / STATE).write_text("not tensors")
    assert {record.status for record in run_sweep(old, mirror=Unmirrored())} == {Status.finished}


def test_the_settings_of_another_run_are_named(old: list[RunConfig]) -> None:
    (old[2].folder / CONFIG).write_bytes((old[1].folder / CONFIG).read_bytes())
    record = run_sweep(old, mirror=Unmirrored())[2]
    assert record.status is Status.damaged and old[1].run_key in (record.reason or "")


def test_a_run_that_an_older_version_began_is_refused_by_name_and_left_as_it_is(tmp_path: Path) -> None:
    begun = point(tmp_path, u=5, steps=3, recipe=1)
    with pytest.raises(KeyboardInterrupt):
        run_pack([begun], ["begun"], At(1, interrupt), Unmirrored())
    written = yaml.safe_load((begun.folder / CONFIG).read_text())
    assert written["config"].pop("recipe") == 1, "what the first versions did not write"
    (begun.folder / CONFIG).write_text(yaml.safe_dump(written, sort_keys=False))
    before = {path: path.read_bytes() for path in begun.folder.glob("*.*")}
    with pytest.raises(UsageError, match=f"run {begun.run_key} of recipe 1"):
        run_sweep([read_config(begun.folder, tmp_path)], mirror=Unmirrored())
    assert {path: path.read_bytes() for path in before} == before
