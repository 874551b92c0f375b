"""How the ranks of a pack find each other, and notice that one of them is silent.

Under torchrun by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. In jobs of a cluster, on one node or several, rank 0
opens a free port and writes it into a file that all nodes see (TINYLORA_MEETING), so that no port can be taken.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from tinylora.settings.files import write_atomically

MEETING = "TINYLORA_MEETING"
JOINING = timedelta(minutes=10)  # in which all ranks start
Store = Any
"""One of `torch.distributed`, which is imported where there are several ranks."""
SECONDS_BETWEEN_BEATS = 10.0
MOST_MISSED = 18  # beats: three minutes
SECONDS_TO_LEAVE = 5.0
LEFT = b"left"

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else a lost connection is said in thirty lines of C++


def store_of(rank: int, count: int) -> Store:
    """The store in which all ranks read and write; this one waits for the others. Raises RuntimeError in vain."""
    path = os.environ.get(MEETING)
    if path is None:
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(rendezvous("env://", rank, count, timeout=JOINING))
        return store
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if rank == 0:
        address = os.environ["MASTER_ADDR"]
        own = TCPStore(address, 0, count, True, JOINING, wait_for_workers=False)
        write_atomically(Path(path), f"{address} {own.port}\n".encode())
        return own
    address, port = _written(Path(path))
    return TCPStore(address, port, count, False, JOINING)


def _written(path: Path) -> tuple[str, int]:
    """Where rank 0 is, once it has written it."""
    until = time.monotonic() + JOINING.total_seconds()
    while not path.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"rank 0 has not written {path}")
        time.sleep(0.2)
    address, port = path.read_text(encoding="utf-8").split()
    return address, int(port)


class Heartbeat:
    """Shows the others that this rank lives, whatever it is busy with, and notices one that shows nothing.

    Ranks wait for each other for hours, since one may be busy for long. A node that is lost without a word, or a
    process that hangs, is noticed in minutes so. What is missed is counted in own beats: a pause of all is no silence.
    """

    def __init__(self, store: Store, rank: int, count: int, silent: Callable[[int], None]) -> None:
        """`silent` is told once of the first rank that was silent for too long."""
        self.store, self.own, self.silent = store, rank, silent
        self.heard: dict[int, bytes] = {other: b"" for other in range(count) if other != rank}
        self.missed = dict.fromkeys(self.heard, 0)
        self.rounds, self.over = 0, threading.Event()
        self.threads = [threading.Thread(target=what, daemon=True) for what in (self._beat, self._watch)]

    def start(self) -> None:
        """Begin; when this process ends, the others are told that it leaves."""
        for thread in self.threads:
            thread.start()
        atexit.register(self._leave)

    def _leave(self) -> None:
        """Say so; rank 0, which has the store, waits a moment for the others."""
        gone = self.over.is_set()
        self.over.set()
        for thread in self.threads:  # one that is left at work would make Python abort
            thread.join(SECONDS_TO_LEAVE)
        with suppress(RuntimeError):
            if not gone:
                self.store.set(_name(self.own), LEFT.decode())
            until = time.monotonic() + SECONDS_TO_LEAVE
            while self.own == 0 and time.monotonic() < until and any(self._say(other) != LEFT for other in self.heard):
                time.sleep(0.1)

    def _beat(self) -> None:
        """Beat and listen, until the store is gone: that, the main thread sees by itself."""
        while not self.over.is_set():
            try:
                self.store.set(_name(self.own), str(self.rounds))
                for other, before in self.heard.items():
                    said = self._say(other)
                    alive = said != before or said == LEFT
                    self.missed[other] = 0 if alive else self.missed[other] + 1
                    self.heard[other] = said
            except RuntimeError:
                self.over.set()
            self.rounds += 1
            self.over.wait(SECONDS_BETWEEN_BEATS)

    def _watch(self) -> None:
        """Notice a rank that was silent for too long: rank 0 by a store that does not answer."""
        rounds, waited = -1, 0
        while not self.over.wait(SECONDS_BETWEEN_BEATS):
            rounds, waited = self.rounds, waited + 1 if rounds == self.rounds else 0
            silent = 0 if waited >= MOST_MISSED else None
            silent = next((other for other, missed in self.missed.items() if missed >= MOST_MISSED), silent)
            if silent is not None:
                return self.silent(silent)

    def _say(self, other: int) -> bytes:
        name = _name(other)
        return bytes(self.store.get(name)) if self.store.check([name]) else b""


def _name(rank: int) -> str:
    return f"beat/{rank}"
