"""How ranks meet by a file, and what they do about one that is silent, slow or gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.slurm_jobs import ROOT

RANK = """
import os, signal, sys, time
from tinylora.engine import meeting, ranks
meeting.SECONDS_BETWEEN_BEATS, meeting.MOST_MISSED = 0.2, 10
rank, manner = ranks.ranks_of_process(), sys.argv[1]
print("joined", flush=True)
if manner == f"hang {rank.rank}":
    os.kill(os.getpid(), signal.SIGSTOP)
if manner == f"busy {rank.rank}":
    time.sleep(4)
if manner.startswith("leave"):
    time.sleep(0 if manner == f"leave {rank.rank}" else 4)
else:
    print(rank.gather(rank.rank), flush=True)
"""


def two(manner: str, meeting: Path | None = None) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    if meeting is not None:
        common |= {"MASTER_PORT": "1", "TINYLORA_MEETING": str(meeting)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", RANK, manner],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (1, 0)
    ][::-1]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_hangs_is_noticed_by_the_other(rank: int) -> None:
    processes = two(f"hang {rank}")
    _, said = processes[1 - rank].communicate(timeout=60)
    processes[rank].kill()
    processes[rank].communicate()
    assert f"rank {1 - rank}: error: rank {rank} of 2 has shown no sign of life for 3 minutes" in said
    assert processes[1 - rank].returncode == -signal.SIGKILL, "so that its job is queued again"


@pytest.mark.parametrize("manner", ["busy 0", "busy 1", "leave 0", "leave 1"])
def test_a_rank_that_is_busy_or_has_left_is_not_missed(manner: str, tmp_path: Path) -> None:
    for process in two(manner, tmp_path / "meeting"):
        out, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "")
        assert out.split("\n")[1:2] == ([""] if "leave" in manner else ["[0, 1]"])
    address, port = (tmp_path / "meeting").read_text().split()
    assert address == "127.0.0.1" and int(port) > 1, "a port that was free"
