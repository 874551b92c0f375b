"""The store while it is made: thousands of events, so what makes a difference is swept, and some of the rest."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from faults.attempts import Fault, Warm
from faults.sweep import event_at, faults_of_first, require, spread

MODES = ("kill", "tear", "error", "full", "sqlkill", "sqlerror")
PARTS = 4
EVERY = 10_000


class StoreSweep:
    """Faults while MLflow's store is made in an empty folder."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.warm, self.folder = warm, folder
        self.events = self._listed("list")
        self.statements = self._listed("sqllist")
        self.wanted = schema(folder / "list" / "outputs")

    def _listed(self, mode: str) -> list[str]:
        (self.folder / mode).mkdir()
        require(self.warm.attempt(self.folder / mode, Fault(mode), "store", self.folder / "events"), 0)
        return (self.folder / "events").read_text().splitlines()

    def places(self, mode: str, commits: int, writes: int) -> list[int]:
        """All that is not SQLite's, and some of its `commits` (which remove its journal) and `writes`."""
        sql = mode.startswith("sql")
        numbered = list(enumerate(self.statements if sql else self.events, start=1))
        if mode == "tear":
            numbered = [(k, name) for k, name in numbered if name.startswith("write ")]
        ending = [k for k, name in numbered if name.startswith(("COMMIT", "unlink "))]
        others = [k for k, name in numbered if not sql and "-journal" not in name and not name.startswith("write ")]
        others = [k for k in others if not self.events[k - 1].startswith("fsync ")]
        return sorted({*others, *spread(ending, commits), *spread([k for k, _ in numbered], writes)})

    def run(self, mode: str, places: list[int]) -> list[str]:
        """What went wrong, a line for each place."""
        return [line for k in places for line in self._at(Fault(mode, k))]

    def _at(self, fault: Fault) -> list[str]:
        folder = self.folder / f"{fault.mode}-{fault.k}"
        folder.mkdir()
        listed = self.folder / "at"
        first = self.warm.attempt(folder, fault, "store", listed)
        problems = [] if first.status == 0 else faults_of_first(fault, first)
        second = self.warm.attempt(folder, job="store")
        files = sorted(path.name for path in (folder / "outputs").iterdir()) if second.status == 0 else []
        if second.status != 0:
            problems.append(f"the next start ends with {second.status}: {second.said[-600:]}")
        elif files != [".mlflow.db.lock", "mlflow.db"]:
            problems.append(f"it leaves {files}")
        elif (found := schema(folder / "outputs")) != self.wanted:
            problems.append(f"another schema: {sorted(found ^ self.wanted)[:3]}")
        shutil.rmtree(folder)
        return [f"{fault.mode} at {fault.k} ({event_at(fault.k, listed)}): {line}" for line in problems]


def schema(outputs: Path) -> set[tuple[str, ...]]:
    """The columns and indices of a store, and its experiments."""
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        columns = (
            "SELECT t.type, t.name, c.name, c.type FROM sqlite_master AS t LEFT JOIN pragma_table_info(t.name) AS c"
        )
        experiments = "SELECT 'experiment', name, lifecycle_stage FROM experiments"
        return {*database.execute(columns), *database.execute(experiments)}


@pytest.fixture(scope="session")
def store(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> StoreSweep:
    return StoreSweep(warm, tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("mode", ["kill", *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])])
def test_a_few_faults_while_the_store_is_made(mode: str, store: StoreSweep) -> None:
    places = spread(store.places(mode, commits=2, writes=2), 2)
    assert not (wrong := store.run(mode, places)), "\n".join(wrong)


@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", MODES)
def test_every_fault_while_the_store_is_made(mode: str, part: int, store: StoreSweep) -> None:
    places = store.places(mode, commits=EVERY if mode == "kill" else 40, writes=40)
    assert not (wrong := store.run(mode, places[part::PARTS])), "\n".join(wrong)
