"""The warm process, and what an undisturbed run leaves; one of each for all tests of a process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.attempts import Warm, compile_library
from faults.sweep import Sweep


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    if sys.platform != "linux":
        pytest.skip("faults are put into system calls by LD_PRELOAD, which is Linux's")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on PATH: faults.c is compiled by the test")
    try:
        library = compile_library(tmp_path_factory.mktemp("library"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"faults.c does not compile here: {error.stderr[:300]}")
    process = Warm(library)
    yield process
    process.close()


@pytest.fixture(scope="session")
def sweep(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return Sweep(warm, Path(tmp_path_factory.mktemp("faults")))
