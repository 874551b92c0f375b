"""Settings of all tests: offline and with one thread, before anything imports transformers or PyTorch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import chromium

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Results are the same bit for bit only with one count of threads, and two processes with two each get in each other's
# way on two cores. The processes that tests start have it from here.
os.environ["OMP_NUM_THREADS"] = "1"
# What is computed once for all runs of a machine is computed once for all tests, and nothing is left behind.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="tinylora-cache-", ignore_cleanup_errors=True)
    os.environ["TINYLORA_CACHE"] = CACHE.name

# Files that take long begin first, so that both processes end together.
LONG = ("test_slurm", "test_docs", "test_jobs", "test_study", "test_ranks", "test_resume")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    marked = [item for item in items if item.get_closest_marker("slurm") is not None]
    if marked and (reason := why_no_slurm()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"{reason}; as root, tests/support/slurm_node.sh starts one"))
    if chromium.executable() is None:
        for item in items:
            if item.get_closest_marker("chromium") is not None:
                item.add_marker(
                    pytest.mark.skip(reason="no Chromium on PATH (apt-get install chromium-headless-shell)")
                )


def why_no_slurm() -> str | None:
    """Why jobs cannot be submitted from here; None where they can."""
    if shutil.which("sbatch") is None:
        return "no sbatch on PATH"
    asked = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return f"no SLURM answers ({(asked.stderr.strip() or 'sinfo failed').splitlines()[0]})"
    usable = {"idle", "mix", "alloc"}
    return None if usable & set(asked.stdout.split()) else f"no node is up (sinfo: {' '.join(asked.stdout.split())})"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with MLflow's schema and nothing else: making one takes seconds, copying one does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def untrained_models_are_evaluated_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests put other code in the place of ours: what they measure with it is for no other test."""
    if (module := sys.modules.get("tinylora.train.untrained")) is not None:
        monkeypatch.setattr(module, "FOLDER", f"untrained-{tmp_path.parent.name}-{tmp_path.name}")


@pytest.fixture
def minute_of_processor_time() -> Iterator[None]:
    """Ends a test that would search for hours; a machine that is slow or busy does not."""

    def end(*_: object) -> None:
        pytest.fail("not done in a minute of processor time: does the work grow with the square of the text?")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, 60.0)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.fixture
def outputs(tmp_path: Path, empty_store: Path) -> Path:
    """An outputs_dir whose default MLflow store is there already."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path
