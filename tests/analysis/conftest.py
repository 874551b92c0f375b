"""Stores without runs, which tests of the report fill."""

import shutil
from pathlib import Path

import pytest

from benchmarks.report import create_store


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: MLflow takes seconds to create one, a copy takes none."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    create_store(path)
    return path


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Path:
    """A store of the test's own."""
    return Path(shutil.copy(empty, tmp_path / "mlflow.db"))
