"""Whatever the last call before a kill was, and whatever was made again, a push ends with what the folder says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from support.records import make_folder, make_samples

from tinylora.records import mirror
from tinylora.records.folder import METRICS, SUMMARY, RunFolder, Status, lines_of
from tinylora.records.import_runs import sync
from tinylora.records.mirror import ENDED, MARKER, Mirror
from tinylora.records.mirrored import TABLE
from tinylora.records.samples import SAMPLES, SampleFile, read_samples

WRITING = (
    "create_run",
    "log_batch",
    "log_artifact",
    "log_text",
    "set_tag",
    "set_terminated",
    "update_run",
    "delete_run",
)


class Killed(BaseException):
    """The process ends here."""


def records(store: Mirror, key: str) -> list[Run]:
    return list(store.client.search_runs([store.experiment], f"tags.run_key = '{key}'"))


def points(store: Mirror, run: Run, name: str = "train/loss") -> dict[int, list[float]]:
    """Every value that the store has of a metric, by step."""
    found: dict[int, list[float]] = {}
    for point in store.client.get_metric_history(run.info.run_id, name):
        found.setdefault(point.step, []).append(point.value)
    return found


def the_record(folder: RunFolder) -> Run:
    """The one record of a run, after it was held against the folder."""
    store = Mirror(folder.config)
    (run,) = records(store, folder.config.run_key)
    lines, status = folder.lines(), folder.status()
    assert status is not None
    assert points(store, run) == {line.step: [line.metrics["train/loss"]] for line in lines}
    assert run.data.tags["status"] == status.value
    assert run.data.params["trained_values"] == "13" and len(run.data.params) > 20
    word = {"finished": "FINISHED", "failed": "FAILED", "cut short": "KILLED", "running": "RUNNING"}[status.value]
    assert run.info.status == word
    if lines:
        assert run.info.start_time <= int(lines[0].time * 1000), "it says when the import was, not the run"
    if status is not Status.running:
        assert run.info.end_time == (int(lines[-1].time * 1000) if lines else run.info.end_time)
        for name in (METRICS, SUMMARY):
            kept = Path(store.client.download_artifacts(run.info.run_id, name))
            assert kept.read_bytes() == (folder.path / name).read_bytes()
        if (folder.path / SAMPLES).exists():
            table = store.client.load_table(store.experiment, TABLE, run_ids=[run.info.run_id])
            recorded = read_samples(folder.path / SAMPLES)[0]
            assert list(table.columns) == list(asdict(recorded[0])), "pandas makes numbers of texts that look so"
            for name in ("kind", "problem", "completion", "strict", "tokens"):
                assert list(table[name]) == [getattr(sample, name) for sample in recorded]
            assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": TABLE, "type": "table"}]
    return run


def change_lines(folder: RunFolder, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Write metrics.jsonl anew, and the summary where there is one."""
    lines = change([json.loads(line) for line in (folder.path / METRICS).read_text().splitlines()])
    (folder.path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, reason = folder.status(), folder.reason()
    if status is not None and status is not Status.running:
        folder.conclude(status, reason, {})


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[str]]:
    """Ends the process before the n-th writing call of MLflow's client from now; the calls that were made."""

    def arm(last: int | None) -> list[str]:
        made: list[str] = []

        def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **named: Any) -> Any:
                if len(made) == last:
                    raise Killed
                made.append(name)
                return real(*words, **named)

            return call

        for name in WRITING:
            monkeypatch.setattr(MlflowClient, name, watched(name, ORIGINAL[name]))
        return made

    return arm


ORIGINAL = {name: getattr(MlflowClient, name) for name in WRITING}
BEFORE: dict[str, Status | None] = {"new": None, "cut short": Status.cut_short, "running": Status.running}


@pytest.mark.parametrize("before", BEFORE)
def test_a_kill_between_any_two_calls_is_made_up_for(
    before: str, outputs: Path, killed_at: Callable[[int | None], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PARAMS_BATCH", 20)
    for count in range(30):
        folder = make_folder(outputs, (0.1, 0.2, 0.3), None, seed=count)
        mlflow.set_tracking_uri(folder.config.tracking_uri)  # from where tables are loaded
        SampleFile(folder.path, fsync=False).append([], make_samples(2), edge=True, durable=False)
        if before == "cut short":
            folder.conclude(Status.cut_short, "a test wants it", {})
        if before != "new":
            Mirror(folder.config).push([folder], final=True)
            folder.reopen()
        folder.conclude(Status.finished, None, {})
        made = killed_at(count)
        try:
            Mirror(folder.config).push([folder], final=True)
        except Killed:
            killed_at(None)
            Mirror(folder.config).push([folder], final=True)
            the_record(folder)
        else:
            assert len(made) <= count, "no kill came"
            the_record(folder)
            assert count > 3
            return
        killed_at(None)
    pytest.fail("so many calls are too many")


def made_again(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last two steps in another grouping: other rounding, and later."""
    return lines[:-2] + [
        line | {"time": line["time"] + 100, "metrics": {name: value + 1e-9 for name, value in line["metrics"].items()}}
        for line in lines[-2:]
    ]


def same_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return lines[:-1] + [lines[-1] | {"metrics": lines[-1]["metrics"] | {"train/loss": 7.0}}]


def earlier_clock(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A step made again on a machine whose clock is behind."""
    return lines[:-1] + [same_times(lines)[-1] | {"time": lines[-1]["time"] - 50}]


@pytest.mark.parametrize("change", [made_again, same_times, earlier_clock, lambda lines: lines[:-1], lambda lines: []])
@pytest.mark.parametrize("status", [Status.cut_short, Status.running])
def test_steps_that_were_made_again_have_the_folders_values(
    change: Callable[..., Any], status: Status, outputs: Path
) -> None:
    folder = make_folder(outputs, (0.1, 0.2, 0.3, 0.4), None)
    if status is not Status.running:
        folder.conclude(status, "a test wants it", {})
    Mirror(folder.config).push([folder], final=True)
    change_lines(folder, change)
    for _ in range(2):
        Mirror(folder.config).push([folder], final=True)
        run = the_record(folder)
    folder.reopen()
    for step in range(len(folder.lines()), 4):
        folder.append(step, {"train/loss": float(step)})
    folder.conclude(Status.finished, None, {})
    Mirror(folder.config).push([folder], final=True)
    assert the_record(folder).info.run_id == run.info.run_id, "what was pushed is kept, and the rest appended"


def test_a_kill_while_a_record_is_replaced_leaves_one_in_the_end(
    outputs: Path, killed_at: Callable[[int | None], list[str]]
) -> None:
    for count in range(30):
        folder = make_folder(outputs, (0.1, 0.2, 0.3, 0.4), seed=count)
        Mirror(folder.config).push([folder], final=True)
        change_lines(folder, made_again)
        made = killed_at(count)
        try:
            Mirror(folder.config).push([folder], final=True)
        except Killed:
            killed_at(None)
            Mirror(folder.config).push([folder], final=True)
            the_record(folder)
        else:
            assert made[-1] == "delete_run"
            the_record(folder)
            return
    pytest.fail("so many calls are too many")


def as_an_earlier_version(folder: RunFolder, lines: int, twice: bool = False) -> str:
    """A record as earlier versions wrote it: the step as mark; `twice`: one step with another value before."""
    store = Mirror(folder.config)
    run = store.client.create_run(store.experiment, tags={"run_key": folder.config.run_key})
    for line in folder.lines()[:lines]:
        stamp = int(line.time * 1000)
        values = line.metrics | {MARKER: float(line.step)}
        found = [Metric(name, value, stamp, line.step) for name, value in values.items()]
        if twice and line.step == 1:
            found += [Metric(name, value, stamp - 40, 1) for name, value in ({"train/loss": 9.0, MARKER: 1.0}).items()]
        store.client.log_batch(run.info.run_id, metrics=found)
    return str(run.info.run_id)


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_mirror_of_an_earlier_version_goes_on(lines: int, outputs: Path) -> None:
    folder = make_folder(outputs, (0.1, 0.2, 0.3))
    old = as_an_earlier_version(folder, lines)
    for _ in range(2):
        Mirror(folder.config).push([folder], final=True)
        store = Mirror(folder.config)
        (run,) = records(store, folder.config.run_key)
        assert run.info.run_id == old
        assert points(store, run) == {line.step: [line.metrics["train/loss"]] for line in folder.lines()}
        assert run.data.metrics[MARKER] > 2**48, "next time one look is enough"


def test_old_values_that_an_earlier_version_left_are_gone(outputs: Path) -> None:
    folder = make_folder(outputs, (0.1, 0.2, 0.3))
    old = as_an_earlier_version(folder, 3, twice=True)
    Mirror(folder.config).push([folder], final=True)
    assert the_record(folder).info.run_id != old


def test_a_run_with_another_model_has_a_record_of_its_own(
    outputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = make_folder(outputs, (0.1, 0.2))
    Mirror(one.config).push([one], final=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    away = one.path.rename(elsewhere / "away")
    other = make_folder(outputs, (0.5, 0.6), provenance={"model_digest": "other"})
    for _ in range(2):
        assert sync(outputs).problems == []
        store = Mirror(other.config)
        found = {run.data.params["model_digest"]: points(store, run) for run in records(store, other.config.run_key)}
        lines = {folder: [line.metrics["train/loss"] for line in lines_of(folder)] for folder in (away, other.path)}
        assert found["aaaa"] == {step: [value] for step, value in enumerate(lines[away])}
        assert found["other"] == {step: [value] for step, value in enumerate(lines[other.path])}


def test_a_run_that_is_whole_is_not_written_again(outputs: Path, killed_at: Callable[[int | None], list[str]]) -> None:
    folder = make_folder(outputs, (0.1, 0.2))
    Mirror(folder.config).push([folder], final=True)
    assert Mirror(folder.config).client.get_run(the_record(folder).info.run_id).data.tags[ENDED]
    made = killed_at(None)
    Mirror(folder.config).push([folder], final=True)
    assert made == []


def test_one_damaged_folder_is_named_and_the_others_are_imported(outputs: Path) -> None:
    good = make_folder(outputs, (0.1, 0.2), seed=1)
    texts = {
        "config.yaml": ["{", "run_key: a\n", "[]", "\xff\xfe", "config: {u: [1]}\nprovenance: {}\n"],
        SUMMARY: ["{", "[]", '{"status": "no"}', "[" * 100_000, '{"status": "finished"}'],
        METRICS: [
            "nothing\n",
            "[]\n",
            '{"step": 0}\n',
            "[" * 100_000 + "\n",
            '{"step": "a", "time": 0, "metrics": {}}\n',
        ],
    }
    wrong = {}
    for seed, (name, text) in enumerate((name, text) for name, several in texts.items() for text in several):
        folder = make_folder(outputs, (0.1, 0.2), seed=seed + 2)
        (folder.path / name).write_bytes(text.encode("latin-1"))
        wrong[folder.config.run_key] = name
    synced = sync(outputs)
    assert synced.runs == 1
    assert set(synced.damaged) == set(wrong) and len(synced.problems) == len(wrong)
    assert all("Traceback" not in why and why for why in synced.damaged.values())
    the_record(good)
