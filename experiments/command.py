"""What all commands have in common: errors in three parts, exit status, signals, the time after which one stops.

0    done                      3    stopped when its time was over, and there is more to do
1    something failed          130  interrupted by Ctrl-C, SIGTERM or SIGHUP
2    it cannot be done             141  its output was read no further, as after `| head`
"""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tinylora.engine.ranks import rank_of_process, world_size
from tinylora.records.stopping import Stopped, StopRequest
from tinylora.settings.errors import TinyLoraError, UsageError, causes
from tinylora.settings.interrupts import INTERRUPTED
from tinylora.settings.paths import absolute
from tinylora.settings.streams import printing

MORE_TO_DO = 3
ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # a scheduler or the system ends the process; its terminal is gone


def run_command(work: Callable[[], int | None], interrupted: str = "interrupted; the same command resumes") -> int:
    """Do the work of a command and return the exit status: what `work` returns (None: 0), or that of its error.

    Errors that a person can act on are printed without a traceback. SIGTERM and SIGHUP count as Ctrl-C: a run that they
    end is recorded and can be resumed; `interrupted` is what is then said.
    """
    try:
        on_signals((*ENDINGS, signal.SIGINT), signal.default_int_handler)
        return _status_of(work)
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        return INTERRUPTED


def _status_of(work: Callable[[], int | None]) -> int:
    """The status that some work returns, or that of its error, which is printed. Raises KeyboardInterrupt."""
    try:
        return work() or 0
    except Stopped as stopped:
        print(f"stopped with all states saved: {stopped}; the same command goes on from here", file=sys.stderr)
        return MORE_TO_DO
    except Exception as error:
        if _hides_interrupt(error):
            raise KeyboardInterrupt from error
        if not isinstance(error, TinyLoraError):
            raise
        who = f"rank {rank_of_process()}: " if world_size() > 1 else ""
        print(f"{who}error: {error}", file=sys.stderr)
        return error.exit_status


def _hides_interrupt(error: BaseException) -> bool:
    """Whether an error came of an interrupt: libraries turn what is raised in their midst into errors of their own."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in causes(error))


def leave(main: Callable[[], int]) -> NoReturn:
    """End the process with the exit status of a command's main function.

    Python would end one by SIGINT in which an interrupt has passed through an `exec`, even where it was caught.
    """
    status = printing(main)
    if status == INTERRUPTED:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def stop_after(minutes: float) -> StopRequest:
    """A request to stop, which is made when the minutes are over, or by SIGTERM or SIGHUP."""
    stop = StopRequest()
    if minutes < threading.TIMEOUT_MAX / 60:
        timer = threading.Timer(60 * minutes, stop.ask, (f"its {minutes:g} minutes are over",))
        timer.daemon = True
        timer.start()
    on_signals(ENDINGS, lambda *_: stop.ask("the process was told to end"))
    return stop


def on_signals(numbers: Iterable[signal.Signals], act: Callable[[int, FrameType | None], object]) -> None:
    """From now on do this on these signals, except on ignored ones (SIGHUP under nohup); in the main thread alone."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, act)


def add_outputs_dir(parser: argparse.ArgumentParser) -> None:
    """The option that says where everything lies."""
    parser.add_argument("--outputs-dir", default="outputs", help="folder of the runs (%(default)s)")


def require_folder(given: str) -> Path:
    """The folder of the runs as an absolute path. Raises UsageError where nothing was run."""
    outputs = absolute(given, "--outputs-dir")
    if not outputs.is_dir():
        raise UsageError(
            f"--outputs-dir {outputs}: no such folder",
            "runs lie in the outputs_dir that they were given, `outputs` by default, and none has been started there",
            "give --outputs-dir <outputs_dir of the runs>, or start one first: `python -m experiments.run u=13`",
        )
    return outputs
