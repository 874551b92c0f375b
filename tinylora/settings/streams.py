"""What a command prints, whatever takes it: a terminal that knows ASCII alone, a pipe that is read no further."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any

UNREAD = 141  # exit status of a program whose output is read no further: what a shell says of one that SIGPIPE ended
UNWRITTEN = 1


class Output(io.RawIOBase):
    """Standard output or error: it notes why it could not be written, and from then on drops what it is given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.failed: OSError | None = None

    def fileno(self) -> int:
        """The number of the stream."""
        return self.number

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self.number)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any, /) -> int:
        """Write what fits, and return how many bytes that were. Raises OSError once."""
        if self.failed is not None:
            return memoryview(data).nbytes
        try:
            return os.write(self.number, data)
        except OSError as error:
            self.failed = error
            raise


def printing(main: Callable[[], int]) -> int:
    """The exit status of a command's main function, or of what becomes of its output.

    A character that the terminal does not have is printed as its number. Where the output cannot be written any more,
    the command ends there: without a word where it is read no further (`| head`), else with the reason.
    """
    outputs = _take_over()
    try:
        status = _status(main)
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        if not any(output.failed for output in outputs):
            raise
    failed = next((output.failed for output in outputs if output.failed is not None), None)
    if failed is None:  # argparse passes over such an error, so it is asked for in any case
        return status
    if failed.errno == errno.EPIPE:
        return UNREAD
    print(f"error: the output cannot be written: {failed.strerror}", file=sys.stderr)
    return UNWRITTEN


def _status(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as end:  # of argparse, after --help or an error
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _take_over() -> list[Output]:
    """Put our streams in the place of Python's, where these are its own and not those of a test or a notebook.

    Streams that were closed (`>&-`) go nowhere: else the next file that is opened would take their place.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    taken = []
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None or (isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__")):
            output, encoding = Output(number), stream.encoding if stream else "utf-8"
            text = io.TextIOWrapper(io.BufferedWriter(output), encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, text)
            taken.append(output)
    return taken
