"""Whatever goes wrong at whatever moment of a run: the same command then ends as if nothing had happened.

v and Adam's moments bit for bit, every line once, MLflow as the folders, nothing left over; and an error that was not
survived is one that a person can act on. `make test-faults` has every k, `make test` a fixed few.
"""

from __future__ import annotations

import pytest
from faults.sweep import Sweep, spread

from tinylora.records.samples import SAMPLES

MODES = ("kill", "tear", "error", "full", "lose", "sqlkill", "sqlerror")
PARTS = 8  # of the places of one mode: so that two processes share them


def few(sweep: Sweep, mode: str, count: int) -> list[int]:
    """Some places: half of them at run folders, half in the store, where there are more events by far."""
    places = sweep.places(mode)
    if mode.startswith("sql"):
        return spread(places, count)
    in_folders = [k for k in places if k <= len(sweep.events) and "mlflow.db" not in sweep.events[k - 1]]
    return sorted({*spread(in_folders, count // 2), *spread(places, count - count // 2)})


@pytest.mark.parametrize("mode", MODES)
def test_a_few_faults(mode: str, sweep: Sweep) -> None:
    assert not (wrong := sweep.run(mode, few(sweep, mode, 4))), "\n".join(wrong)


@pytest.mark.parametrize("mode", ["tear", "lose"])
def test_a_kill_in_the_middle_of_writing_samples_loses_none_that_were_whole(mode: str, sweep: Sweep) -> None:
    """Of the file's first writes, which are of the first lane, and of its last, which is of the last."""
    places = [k for k in sweep.places(mode) if k <= len(sweep.events) and sweep.events[k - 1].endswith(SAMPLES)]
    assert len(places) >= 6, "samples of both lanes before, while and after they are trained"
    assert not (wrong := sweep.run(mode, spread(places, 4))), "\n".join(wrong)


@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", MODES)
def test_every_fault(mode: str, part: int, sweep: Sweep) -> None:
    assert not (wrong := sweep.run(mode, sweep.places(mode)[part::PARTS])), "\n".join(wrong)
