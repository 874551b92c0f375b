"""The processes that train one pack together, data parallel; each is a rank.

The ranks share the prompts of a rollout, the completions that are to be scored and the prompts of a gradient: rank r of
n does every n-th from r on. What they find is put together, so all of them know all of it, take the same optimizer step
and hold the same v. Rank 0, which leads, alone writes and shows anything. Noise belongs to a row and not to a process
(see `seeds`), so the split changes rounding and nothing else.

They are found from RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them (in jobs,
`experiments.jobs.job`), and meet as `meeting` says. A rank that fails leaves its error with the others, which then fail
too, with that error. They talk through gloo, on the CPU: what they say is small, but for the gradient of full
fine-tuning.

Imported without PyTorch, by what must start fast.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from tinylora.engine.meeting import JOINING, MOST_MISSED, SECONDS_BETWEEN_BEATS, Heartbeat, store_of
from tinylora.records.stopping import Stopped
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import FailureError, UsageError, first_line

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Found = TypeVar("Found")

PATIENCE = timedelta(hours=2)  # that a rank waits for the others: longer than any of them is busy with one thing
SECONDS_TO_BE_GONE = 5.0  # that a killed process may take, for the others to see it
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class LostRank(FailureError):
    """Another rank of the pack has failed or is gone."""


class Ranks:
    """One process by itself, which leads nobody; what it says to all, it says to itself."""

    rank, count = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and shows what all have found."""
        return self.rank == 0

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's share."""
        return items[self.rank :: self.count]

    def gather(self, part: Found) -> list[Found]:
        """What every rank hands in, by rank. All ranks must call it, like all that is built on it."""
        return [part]

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace fp32 tensors by their sums over all ranks, to the same bits in each."""

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Inside, an error of this rank is left for the others, to whom this rank will not answer any more."""
        yield

    def share(self, items: Sequence[Item], action: Callable[[Sequence[Item]], Sequence[Found]]) -> list[Found]:
        """What `action` finds for every item, in order; it gets this rank's share, if any, and finds one for each."""
        own = self.own(items)
        parts = self.gather(list(action(own)) if own else [])
        return [parts[place % self.count][place // self.count] for place in range(len(items))]

    def first(self, action: Callable[[], Found]) -> Found:
        """What `action` finds in rank 0, which alone does it."""
        return cast(Found, self.gather(action() if self.leads else None)[0])

    def any(self, said: Found | None) -> Found | None:
        """What the first rank says that says something."""
        return next((one for one in self.gather(said) if one is not None), None)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Rank 0 does what is inside before the others do."""
        if not self.leads:
            self.gather(None)
        yield
        if self.leads:
            self.gather(None)


class Together(Ranks):
    """One process of several."""

    def __init__(self, rank: int, count: int, local_rank: int) -> None:
        """Wait for the others."""
        import torch
        from torch import distributed

        self.rank, self.count = rank, count
        if torch.cuda.is_available():
            torch.cuda.set_device(device_of(local_rank, torch.cuda.device_count()))
        try:
            self._store = store_of(rank, count)
        except RuntimeError as error:
            raise LostRank(
                f"rank {rank} has not found the others of {count}: {first_line(error)}",
                f"all of them start within {JOINING.total_seconds() / 60:.0f} minutes, and meet at MASTER_PORT",
                "see what the others have written, then run the pack again",
            ) from error
        self._processes: list[tuple[str, int]] = []
        with self._talking():
            group = distributed.distributed_c10d.PrefixStore("group", self._store)
            distributed.init_process_group("gloo", store=group, rank=rank, world_size=count, timeout=PATIENCE)
        self._processes = self.gather((socket.gethostname(), os.getpid()))
        Heartbeat(self._store.clone(), rank, count, self._give_up).start()

    def _give_up(self, silent: int) -> NoReturn:
        """End this process, whose main thread waits for a rank that will not answer: by a kill, as in a lost node."""
        minutes = MOST_MISSED * SECONDS_BETWEEN_BEATS / 60
        said = f"rank {silent} of {self.count} has shown no sign of life for {minutes:.0f} minutes"
        print(
            f"rank {self.rank}: error: {said}; the pack goes on from its last saved step", file=sys.stderr, flush=True
        )
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit

    def gather(self, part: Found) -> list[Found]:
        """What every rank hands in, by rank."""
        from torch import distributed

        parts: list[Found | None] = [None] * self.count
        with self._talking():
            distributed.all_gather_object(parts, part)
        return cast(list[Found], parts)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace fp32 tensors by their sums over all ranks."""
        import torch
        from torch import distributed

        flat = torch.cat([tensor.detach().flatten().cpu() for tensor in tensors])
        with self._talking():
            distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Inside, an error of this rank is left for the others."""
        try:
            yield
        except (Stopped, LostRank):  # which all ranks are, or the others know of
            raise
        except BaseException as error:
            kind = "" if isinstance(error, FailureError | UsageError) else f"{type(error).__name__}: "
            self._note(f"rank {self.rank} of {self.count} has failed: {kind}{first_line(error)}")
            raise

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Inside, an error means that a rank does not answer."""
        try:
            yield
        except RuntimeError as error:
            raise LostRank(
                self._what_happened(error),
                "the ranks of a pack make every step together",
                "see what that rank has written; the pack goes on from its last saved step when it is run again",
            ) from error

    def _what_happened(self, error: RuntimeError) -> str:
        """The first error that was left; else the rank whose process is gone; else what gloo says."""
        until = time.monotonic() + SECONDS_TO_BE_GONE
        while time.monotonic() < until:
            with suppress(RuntimeError):  # the store is gone with rank 0
                if self._store.check(["error"]):
                    return str(self._store.get("error").decode())
            for rank, (host, process) in enumerate(self._processes):
                if host == socket.gethostname() and gone(process):
                    time.sleep(0.2)  # it may have left an error after all
                    return self._note(f"rank {rank} of {self.count} is gone: process {process} was killed")
            time.sleep(0.1)
        return f"a rank of {self.count} does not answer: {first_line(error)}"

    def _note(self, text: str) -> str:
        """Leave an error for the others, unless there is one already; returns the one that is there."""
        with suppress(RuntimeError):
            return str(self._store.compare_set("error", "", text).decode())
        return text


@cache
def ranks_of_process() -> Ranks:
    """What this process is; one of several waits here for the others. Raises UsageError where that is not well said."""
    count = world_size()
    if count == 1:
        return Ranks()
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE={count} without {missing[0]}",
            f"several processes that train together find each other by {', '.join(VARIABLES)}",
            "start them with torchrun or launcher.tasks, or unset WORLD_SIZE",
        )
    return Together(rank_of_process(), count, int(os.environ["LOCAL_RANK"]))


def rank_of_process() -> int:
    """The rank of this process, 0 where it is alone: known without waiting for others."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes train together."""
    given = os.environ.get("WORLD_SIZE") or "1"
    return int(given) if given.isdecimal() else 1


def device_of(local_rank: int, devices: int) -> int:
    """The number of this rank's GPU, among those that it sees: one of its own, or one each for all of a machine."""
    if devices > 1 and local_rank >= devices:
        raise UsageError(
            f"a rank number {local_rank} on a machine with {devices} GPUs",
            "every rank has a GPU of its own",
            f"start at most {devices} ranks on a machine, or give model.device=cpu and CUDA_VISIBLE_DEVICES=",
        )
    return local_rank % devices


def require_work(configs: Sequence[RunConfig], count: int) -> None:
    """Raise UsageError where some of the ranks of a pack would have nothing to do, or all of them the same device."""
    config = configs[0]
    prompts = len(configs) * config.algorithm.prompts
    if config.training_steps > 0 and count > prompts:
        raise UsageError(
            f"{count} ranks for a pack of {len(configs)} lanes with algorithm.prompts={config.algorithm.prompts}",
            f"the ranks share the prompts of a step, and this pack has {prompts}",
            f"give launcher.tasks={prompts} (torchrun: --nproc-per-node) or less, or more lanes in a pack",
        )
    if count > 1 and config.model.device.startswith("cuda:"):
        raise UsageError(
            f"model.device={config.model.device} for {count} ranks",
            "every rank has a GPU of its own",
            "give model.device=auto (or cuda), and choose among GPUs with CUDA_VISIBLE_DEVICES",
        )


def gone(process: int) -> bool:
    """Whether a process of this machine has ended, even if its parent has not taken note of that (a zombie)."""
    if not Path("/proc/self").exists():
        return False
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
