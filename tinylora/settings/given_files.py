"""Reading files that people give: regular files only, up to a size, as text or JSON; what is wrong is one sentence.

A pipe would be waited for, `/dev/zero` read for ever, a small archive can hold more than the memory, and brackets can
be nested deeper than a parser's stack. `Unreadable` says why a file was not read, for the rule of an error.
"""

from __future__ import annotations

import gzip
import io
import json
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from tinylora.settings.errors import first_line

MIB, GIB = 2**20, 2**30
UNSUSPECTED = 64 * MIB  # bytes that any archive may hold
MOST_TIMES = 100  # its own size: of more than those, an archive may hold this many times as much; texts have 3 to 20
PIECE = 4 * MIB


class Unreadable(ValueError):
    """Why a file cannot be read."""


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises Unreadable."""
    try:
        described = path.stat()
        if not stat.S_ISREG(described.st_mode):
            raise Unreadable("it is no regular file, but a folder, a pipe or a device")
        with path.open("rb") as file:
            content = _read(file, described.st_size, most)
    except OSError as error:
        raise Unreadable(error.strerror or first_line(error)) from error
    except MemoryError as error:
        raise Unreadable("it is larger than the memory") from error
    if len(content) > most:
        raise Unreadable(f"it is larger than {_size(most)}, and no more is read")
    return content


def _read(file: BinaryIO, size: int, most: int) -> bytes:
    """The content of a file of about `size` bytes; of a larger one than `most`, a byte more than that.

    Memory is asked for as the file needs it: `read(n)` would take n bytes for a file of ten.
    """
    pieces = [file.read(min(size, most) + 1)]
    left = most - min(size, most)
    while left > 0 and (piece := file.read(min(PIECE, left))):  # it has grown, or says no size, as those of /proc
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def unzipped(content: bytes, most: int) -> bytes:
    """What a gzip file holds, decompressed up to `most` bytes. Raises Unreadable."""
    limit = min(most, max(UNSUSPECTED, MOST_TIMES * len(content)))
    held = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while piece := file.read(PIECE):
                held.write(piece)
                if held.tell() > limit:
                    raise Unreadable(f"it decompresses to more than {_size(limit)}, and no more is read")
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"it cannot be decompressed to its end: {first_line(error)}") from error
    except MemoryError as error:
        raise Unreadable("it decompresses to more than the memory holds") from error
    return held.getvalue()


def text_of(content: bytes) -> str:
    """UTF-8 as text, without a byte-order mark. Raises Unreadable."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    except MemoryError as error:
        raise Unreadable("it is larger than the memory") from error


def json_of(text: str | bytes) -> Any:
    """The value that a JSON text holds. Raises Unreadable, also where a name stands twice in an object."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise Unreadable("its brackets are nested too deeply") from error
    except MemoryError as error:
        raise Unreadable("it is larger than the memory") from error
    except ValueError as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"it is not JSON: {first_line(error)}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise Unreadable(
            f"the name {next(name for name in names if names.count(name) > 1)!r} stands twice in an object"
        )
    return content


def _size(size: int) -> str:
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:g} MiB"
