"""A damaged run folder is named and set aside, and the other run goes on: in every command that reads folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import damage
from faults.attempts import Attempt, Fault, Warm
from faults.outcome import differences, read_store
from faults.points import STEPS, points
from faults.sweep import require

from experiments.jobs import ledger
from tinylora.records.folder import ADAPTER, METRICS, PREVIOUS, STATE, SUMMARY

ENTRIES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "damaged_folders.yaml").read_text())
CASES = [(entry, state) for entry in ENTRIES for state in ("unfinished", "finished") if state in entry]
COMMANDS = ("run", "sync", "status", "build", "pack")
SLOW = 24  # of the cases under every command, one in so many is not among the faults
KEYS = [point.run_key for point in points(Path())]


@dataclass(frozen=True)
class Stages:
    """Two runs without a store (its schema alone), and what they end as."""

    unfinished: Path
    finished: Path
    wanted: Path


@pytest.fixture(scope="session")
def stages(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    folder = tmp_path_factory.mktemp("stages")
    stages = Stages(folder / "unfinished", folder / "finished", folder / "wanted")
    stages.unfinished.mkdir()
    require(warm.attempt(stages.unfinished, job="schema"), 0)
    shutil.copytree(stages.unfinished, stages.finished)
    shutil.copytree(stages.unfinished, stages.wanted)
    events = folder / "events"
    require(warm.attempt(stages.finished, Fault("list"), "folders", events), 0)
    at_lines = [k for k, event in enumerate(events.read_text().splitlines(), 1) if event.endswith(METRICS)]
    opening = [k for k in at_lines if events.read_text().splitlines()[k - 1].startswith(("create", "open"))]
    require(warm.attempt(stages.unfinished, Fault("kill", opening[2 * STEPS]), "folders"), -9)
    require(warm.attempt(stages.wanted), 0)
    return stages


def name_of(case: object) -> str:
    return case if isinstance(case, str) else str(case["name"])  # type: ignore[index]


@pytest.mark.parametrize(("entry", "state"), [case for case in CASES if case[0].get("fast")], ids=name_of)
def test_a_damaged_run_is_set_aside(
    entry: dict[str, Any], state: str, stages: Stages, warm: Warm, tmp_path: Path
) -> None:
    check(entry, state, stages, warm, tmp_path / "case", COMMANDS[:3])


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        pytest.param(*case, marks=pytest.mark.faults if number % SLOW else pytest.mark.slow)
        for number, case in enumerate(CASES)
    ],
    ids=name_of,
)
def test_a_damaged_run_is_set_aside_by_every_command(
    entry: dict[str, Any], state: str, stages: Stages, warm: Warm, tmp_path: Path
) -> None:
    check(entry, state, stages, warm, tmp_path / "case", COMMANDS)


def check(
    entry: dict[str, Any], state: str, stages: Stages, warm: Warm, folder: Path, commands: tuple[str, ...]
) -> None:
    """Damage the first run's folder, give it to commands in turn, and look at what they say and do."""
    shutil.copytree(getattr(stages, state), folder, symlinks=True)
    outputs, wanted = folder / "outputs", entry[state]
    damage.apply(outputs / KEYS[0], outputs / KEYS[1], entry)
    ledger.sweep_of(points(outputs), ["first", "second"]).save()
    wrong = []
    for command in commands:
        done = attempt(command, warm, folder)
        expected = "either" if command in entry.get("unseen_by", ()) and wanted == "damaged" else wanted
        wrong += [f"{command}: {line}" for line in judged(command, done, expected, entry, folder)]
        if command == "run":
            wrong += [f"after run: {line}" for line in other_goes_on(outputs, stages)]
        if command == "sync" and KEYS[1] not in read_store(outputs / "mlflow.db"):
            wrong.append("sync: the other run is not in MLflow")
    if wanted == "harmless" and not entry.get("alone"):
        wrong += [f"in the end: {line}" for line in compared(outputs, stages.wanted / "outputs", entry, state)]
    assert not wrong, "\n".join(wrong)


def compared(outputs: Path, wanted: Path, entry: dict[str, Any], state: str) -> list[str]:
    """What differs from the undisturbed sweep, but for what was set aside; states of an ended run do not matter."""
    shutil.rmtree(outputs / "sweeps")
    beside = [*outputs.glob("*/*.damaged"), *outputs.glob(".sync.lock")]
    own = [outputs / KEYS[0] / name for name in (STATE, PREVIOUS) if state == "finished" and name in entry["file"]]
    for path in [*beside, *own]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for path in own:
        shutil.copy(wanted / KEYS[0] / path.name, path)
    try:
        return differences(outputs, wanted)
    except Exception as error:  # what cannot be read is a difference
        return [f"{type(error).__name__}: {error}"]


def attempt(command: str, warm: Warm, folder: Path) -> Attempt:
    outputs = str(folder / "outputs")
    if command == "run":
        return warm.attempt(folder)
    module, words = {
        "sync": ("experiments.sync", ["--outputs-dir", outputs]),
        "status": ("experiments.status", ["--outputs-dir", outputs]),
        "build": ("analysis.build", ["--outputs-dir", outputs, "--out", str(folder / "reports")]),
        "pack": ("experiments.records", ["pack", outputs, str(folder / "records.tar.xz")]),
    }[command]
    return warm.attempt(folder, job=module, words=words)


def judged(command: str, done: Attempt, wanted: str, entry: dict[str, Any], folder: Path) -> list[str]:
    """What is wrong with how a command took the damage."""
    wrong = []
    if done.status not in (0, 1) or "Traceback" in done.said:
        return [f"it ends with {done.status}: {done.said[-1500:]}"]
    statuses = {"harmless": (0,), "either": (0, 1), "damaged": (1,) if command in COMMANDS[:3] else (0,)}[wanted]
    if done.status not in statuses:
        wrong.append(f"exit status {done.status} where {wanted}: {done.said[-700:]}")
    if wanted == "damaged":
        page = folder / "reports" / "index.html"
        said = done.said + (page.read_text() if command == "build" and page.exists() else "")
        names = entry["file"] if isinstance(entry["file"], list) else [entry["file"]]
        parts = [KEYS[0], entry.get("says", names[0])] if command == "run" else [KEYS[0]]
        parts += ["damaged"] if command in ("status", "build") else []
        wrong += [f"it does not say {part!r}: {done.said[-700:]}" for part in parts if part not in said]
    return wrong


def other_goes_on(outputs: Path, stages: Stages) -> list[str]:
    """What the run whose folder is whole lacks."""
    folder, wanted = outputs / KEYS[1], stages.wanted / "outputs" / KEYS[1]
    summary = json.loads((folder / SUMMARY).read_text()) if (folder / SUMMARY).exists() else {}
    wrong = [] if summary.get("status") == "finished" else [f"the other run is {summary.get('status')}"]
    steps = [json.loads(line)["step"] for line in (folder / METRICS).read_text().splitlines()]
    wrong += [] if steps == list(range(STEPS + 1)) else [f"the other run has the steps {steps}"]
    wrong += [] if (folder / ADAPTER).exists() and wanted.exists() else ["the other run has no adapter"]
    return wrong
