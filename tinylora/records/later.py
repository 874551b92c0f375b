"""A mirror that is opened when there is something to write: MLflow takes seconds to import and to make a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinylora.records.folder import RunFolder
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import TinyLoraError

if TYPE_CHECKING:
    from tinylora.records.mirror import Mirror

SECONDS_BEFORE_THE_FIRST_PUSH = 5.0
SECONDS_AFTER_A_FAILURE = 60.0


class LaterMirror:
    """One experiment in one store (`mirror.Mirror`), opened at the first push."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._mirror: Mirror | None = None
        self._next_try = time.monotonic() + SECONDS_BEFORE_THE_FIRST_PUSH

    def push(self, folders: Sequence[RunFolder], final: bool = False) -> None:
        """Bring the store up to date with run folders, not at once unless this is the `final` push.

        A store that cannot be opened is tried again later; only the `final` push raises UsageError or FailureError.
        """
        if self._mirror is None and not final and time.monotonic() < self._next_try:
            return
        try:
            mirror = self._opened()
        except TinyLoraError:
            self._next_try = time.monotonic() + SECONDS_AFTER_A_FAILURE
            if final:
                raise
        else:
            mirror.push(folders, final)

    def _opened(self) -> Mirror:
        if self._mirror is None:
            from tinylora.records.mirror import Mirror

            self._mirror = Mirror(self.config)
        return self._mirror
