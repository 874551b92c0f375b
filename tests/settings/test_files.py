"""Files that are whole at every moment, and locks that one process holds at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinylora.settings.errors import FailureError
from tinylora.settings.files import Timeout, held, write_atomically

HOLD = """
import sys, time
from pathlib import Path
from tinylora.settings.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free_though_its_file_is_still_there(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(Timeout), held(lock, seconds=0):
            pass
        os.kill(process.pid, signal.SIGKILL)
    assert lock.exists()
    with held(lock, seconds=0):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_working_locks_is_refused(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS mounts without a lock service answer; a lock that is a mere file would outlive a killed process."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(FailureError, match="outputs_dir"), held(tmp_path / ".lock", seconds=0):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailureError, match="file lock"), held(tmp_path / "file" / ".lock", seconds=0):
        pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content and [each.name for each in tmp_path.iterdir()] == ["file"]
