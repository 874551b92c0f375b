"""The points of a sweep in a file: written where Hydra is, read where it is not, such as on a borrowed machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tinylora.settings.config import RunConfig, as_plain
from tinylora.settings.errors import UsageError
from tinylora.settings.files import write_atomically
from tinylora.settings.given_files import GIB, Unreadable, json_of, read_regular, text_of
from tinylora.settings.paths import as_entered, portable
from tinylora.settings.recorded import from_plain


def write_points(file: Path, points: Sequence[RunConfig]) -> None:
    """Write the points in their order: their settings by run key, as JSON.

    Paths below the working folder are written relative to it: the points may be read in another machine's copy of it.
    """
    here = Path.cwd()
    content = {point.run_key: as_plain(portable(point, here)) for point in points}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(content) + "\n").encode())


def read_points(file: Path) -> list[RunConfig]:
    """The points of a file, in order. Raises UsageError where it is none, or one of another version."""
    try:
        content = json_of(text_of(read_regular(file, GIB)))
        points = [as_entered(from_plain(plain)) for plain in content.values()]
        keys = list(content)
    except UsageError as error:
        raise UsageError(f"{file}: {error.given}", error.rule, error.remedy) from error
    except (Unreadable, AttributeError) as error:
        raise UsageError(
            f"{file}: {error}",
            "it holds the points of a sweep",
            "make it with `python -m experiments.plan --write <file>`",
        ) from error
    if not points or [point.run_key for point in points] != keys:
        raise UsageError(
            f"{file}", "its points are those of this version of the project", "make it again, with these sources"
        )
    return points
