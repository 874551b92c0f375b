"""A fault at the k-th event of a run, for many k; after it the same command must end as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from faults.attempts import Attempt, Fault, Warm
from faults.outcome import differences

PAGE = "write outputs/mlflow.db"
KILLS = ("kill", "tear", "lose", "sqlkill")


class Sweep:
    """Faults in the run of `points`, each in a fresh folder whose store has its schema."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.warm, self.folder = warm, folder
        self.empty, self.wanted = folder / "empty", folder / "wanted"
        self.empty.mkdir()
        require(warm.attempt(self.empty, job="schema"), 0)
        shutil.copytree(self.empty, self.wanted)
        events = folder / "events"
        require(warm.attempt(self.wanted, Fault("list"), events=events), 0)
        self.events = events.read_text().splitlines()
        """What an undisturbed run does with files, in order: `write outputs/.../config.yaml.part`."""
        for_sql = self._fresh("statements")
        require(warm.attempt(for_sql, Fault("sqllist"), events=events), 0)
        self.statements = events.read_text().splitlines()
        assert not (found := differences(for_sql / "outputs", self.wanted / "outputs")), found

    def places(self, mode: str) -> list[int]:
        """Every k at which a fault of this kind is another one than those of other kinds.

        Of the pages that SQLite writes, most of the events, `kill` and `error` have the odd ones, `tear` and `full` the
        even ones.
        """
        if mode.startswith("sql"):
            return list(range(1, len(self.statements) + 1))
        numbered = list(enumerate(self.events, start=1))
        if mode == "tear":
            numbered = [(k, event) for k, event in numbered if event.startswith("write ")]
        if mode == "lose":  # SQLite's own files are not torn: between two of its events nothing changes
            of_folder = {k for k, event in numbered if "mlflow.db" not in event}
            return sorted(k for k in of_folder | {k + 1 for k in of_folder} if k <= len(numbered))
        left_out = {"kill": 0, "error": 0, "tear": 1, "full": 1}.get(mode)
        return [k for k, event in numbered if not (event.startswith(PAGE) and k % 2 == left_out)]

    def run(self, mode: str, places: Iterable[int]) -> list[str]:
        """What went wrong, a line for each place; empty where every fault was survived."""
        return [line for k in places for line in self.at(Fault(mode, k))]

    def at(self, fault: Fault) -> list[str]:
        """What went wrong with one fault."""
        folder = self._fresh(f"{fault.mode}-{fault.k}")
        problems: list[str] = []
        listed = self.folder / "at"
        first = self.warm.attempt(folder, fault, events=listed)
        if first.status == 0:  # survived; or over before the k-th event came
            problems += ["survived, but: " + line for line in self._differences(folder)]
        else:
            problems += faults_of_first(fault, first)
        second = self.warm.attempt(folder)
        if second.status != 0:
            problems.append(f"the next start ends with {second.status}: {second.said[-600:]}")
        else:
            problems += ["after the next start: " + line for line in self._differences(folder)]
        if problems:
            problems = [f"{fault.mode} at {fault.k} ({event_at(fault.k, listed)}): {line}" for line in problems]
        shutil.rmtree(folder)
        return problems

    def _differences(self, folder: Path) -> list[str]:
        try:
            left = [f"left over: {path.relative_to(folder)}" for path in (folder / "cache").rglob("*.part")]
            return left + differences(folder / "outputs", self.wanted / "outputs")
        except Exception as error:  # what cannot even be read is a difference
            return [f"{type(error).__name__}: {error}"]

    def _fresh(self, name: str) -> Path:
        folder = self.folder / name
        shutil.copytree(self.empty, folder)
        return folder


def faults_of_first(fault: Fault, first: Attempt) -> list[str]:
    """What is wrong with how a process ended by its fault: killed it says nothing; else an error in three parts."""
    if fault.mode in KILLS:
        return [] if first.status == -9 else [f"ended with {first.status}: {first.said[-300:]}"]
    wrong = []
    if first.status != 1:
        wrong.append(f"ended with {first.status}: {first.said[-600:]}")
    elif "\n  rule:   " not in first.said or "\n  remedy: " not in first.said:
        wrong.append(f"no error in three parts: {first.said[-300:]}")
    if "Traceback" in first.said or "Exception ignored" in first.said:
        wrong.append(f"a traceback: {first.said[-600:]}")
    return wrong


def event_at(k: int, listed: Path) -> str:
    """The k-th event of an attempt that listed its events."""
    events = listed.read_text().splitlines()
    return events[k - 1] if k <= len(events) else f"after the last of {len(events)}"


def require(attempt: Attempt, status: int) -> None:
    """Raise AssertionError where an attempt ended otherwise."""
    assert attempt.status == status, f"ended with {attempt.status}: {attempt.said[-2000:]}"


def spread(places: list[int], count: int) -> list[int]:
    """`count` of the places, evenly spread, the first and the last among them; always the same ones."""
    if count >= len(places):
        return places
    return [places[round(number * (len(places) - 1) / (count - 1))] for number in range(count)]
