"""What a command prints, whatever takes it: a terminal that knows ASCII alone, a pipe that is read no further."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable

UNREAD = 141  # exit status of a program whose output is read no further: what a shell says of one that SIGPIPE ended
UNWRITTEN = 1


def printing(main: Callable[[], int]) -> int:
    """The exit status of a command's main function, or of what becomes of its output.

    A character that the terminal does not have is printed as its number. Where the output cannot be written any more,
    the command ends there: without a word where it is read no further (`| head`), else with the reason.
    """
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _status(main)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return status
    except OSError:
        error = _error_of_streams()
        if error is None:
            raise
        if error.errno == errno.EPIPE:
            return UNREAD
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        return UNWRITTEN


def _status(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as end:  # of argparse, after --help or an error
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _error_of_streams() -> OSError | None:
    """Why standard output or error cannot be written, if that is so; what is left for such a stream goes nowhere."""
    found = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            found = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return found


def _open_standard_streams() -> None:
    """Streams that were closed (`>&-`) go nowhere: else the next file that is opened would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            file = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
            setattr(sys, name, io.TextIOWrapper(io.BufferedReader(file) if number == 0 else io.BufferedWriter(file)))
