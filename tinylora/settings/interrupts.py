"""Ctrl-C in the first moment of a command, while modules are still imported: one line instead of their traceback."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130  # exit status of a command that Ctrl-C has ended


def quiet_until_started() -> None:
    """Until a command sets handlers of its own, Ctrl-C ends this process at once: nothing has been started.

    Of use at the very beginning, which is when `python -m <module>` imports the package of the module: `sys.argv[0]` is
    `-m` then, and only then. Elsewhere, as where the package is used as a library, this does nothing.
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    os.write(2, b"interrupted; nothing has been started\n")
    os._exit(INTERRUPTED)
