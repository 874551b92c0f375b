"""An archive of records as a stream of files, each one within its limits before it is in memory.

It is a tar.xz of ordinary files `<run_key>/<name>` and of nothing else: no link, no folder, no other path, none twice.
So the headers are read one by one (tarfile would follow extensions of the format, whose sizes are anyone's). What an
archive unpacks to is limited: a megabyte of xz can hold seven gigabytes.

    one config.yaml, one summary.json     4 MiB
    one samples.jsonl.gz                  1 MiB, and 64 MiB in it
    one v.jsonl                           32 MiB
    one metrics.jsonl, one items.jsonl    256 MiB each
    one evaluations.jsonl                 32 MiB
    one adapter.safetensors, one state    256 MiB each
    all together                          64 MiB, or 300 times the archive where that is more; at most 64 GiB
    files                                 1,000,000

Records shrink by a factor of 10 to 60, compact ones of thousands of runs by up to 100.
"""

from __future__ import annotations

import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tinylora.records.evaluations import EVALUATIONS
from tinylora.records.folder import ADAPTER, CONFIG, ITEMS, METRICS, STATE, SUMMARY
from tinylora.records.kept import KEPT
from tinylora.records.samples import LIMIT, SAMPLES
from tinylora.settings.errors import UsageError, first_line

FILES = (CONFIG, METRICS, SUMMARY, ITEMS, EVALUATIONS, SAMPLES, KEPT, ADAPTER, STATE)
COMMAND = "python -m experiments.records pack"
MEMBER = re.compile(rf"([0-9a-f]{{12}})/({'|'.join(map(re.escape, FILES))})")
MIB = 2**20
LARGEST = {CONFIG: 4 * MIB, SUMMARY: 4 * MIB, SAMPLES: LIMIT, KEPT: 32 * MIB, EVALUATIONS: 32 * MIB}
LARGEST |= dict.fromkeys((METRICS, ITEMS, ADAPTER, STATE), 256 * MIB)
ALWAYS, MOST = 64 * MIB, 64 * 2**30
FACTOR = 300
MOST_FILES = 1_000_000
BLOCK, PADDING = tarfile.BLOCKSIZE, tarfile.RECORDSIZE


def members(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Run key, name and content of every file. UsageError where it is no archive of records, or too large."""
    try:
        with lzma.open(archive) as stream:
            limit = min(MOST, max(ALWAYS, FACTOR * archive.stat().st_size))
            yield from _members(stream, archive, limit)
    except (tarfile.TarError, lzma.LZMAError, EOFError, MemoryError) as error:
        raise UsageError(
            f"{archive}: {first_line(error)}",
            "records are kept in a tar.xz that is whole",
            f"make it again with {COMMAND}, or copy it again",
        ) from error
    except OSError as error:
        raise UsageError(
            f"{archive}: {error.strerror or error}",
            "records are unpacked from a file that can be read",
            f"give the path of one made by {COMMAND}",
        ) from error


def _members(stream: lzma.LZMAFile, archive: Path, limit: int) -> Iterator[tuple[str, str, bytes]]:
    seen: set[tuple[str, str]] = set()
    total = 0
    while (header := _take(stream, BLOCK)).strip(b"\0"):
        key, name, size = _file(header, archive)
        total += size
        if total > limit or len(seen) >= MOST_FILES:
            given = f"more than {limit // MIB} MiB" if total > limit else f"more than {MOST_FILES:,} files"
            raise too_large(f"{archive} unpacks to {given}")
        if (key, name) in seen:
            raise foreign(archive, f"it holds '{key}/{name}' twice")
        seen.add((key, name))
        yield key, name, _take(stream, size)
        _take(stream, -size % BLOCK)
    if stream.read(PADDING + 1).strip(b"\0") or stream.read(1):  # to the end, where xz has its check
        raise foreign(archive, "it holds more behind its end")


def _take(stream: lzma.LZMAFile, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it ends in the middle of a file")
    return content


def _file(header: bytes, archive: Path) -> tuple[str, str, int]:
    """Run key, name and size of the file that follows a header."""
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except UnicodeDecodeError as error:
        raise foreign(archive, "it holds a name that is no text") from error
    named = MEMBER.fullmatch(member.name)
    if not named or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size < 0:
        raise foreign(archive, f"it holds {member.name[:200]!r}")
    check_size(named[2], member.size)
    return named[1], named[2], member.size


def check_size(name: str, size: int) -> None:
    """Raise UsageError where a file is larger than an archive may hold."""
    if size > LARGEST[name]:
        raise too_large(f"a {name} of {size / MIB:,.0f} MiB (at most {LARGEST[name] // MIB} MiB)")


def too_large(given: str) -> UsageError:
    """What to say of what no archive may hold."""
    return UsageError(
        given,
        f"records unpack to at most {FACTOR} times their archive ({ALWAYS // MIB} MiB are always allowed)",
        f"give an archive made by {COMMAND}, in parts or with --compact; nothing was unpacked",
    )


def foreign(archive: Path, why: str) -> UsageError:
    """What to say of a file that is no archive of records."""
    return UsageError(
        f"{archive}: {why}",
        f"an archive of records holds <run_key>/ with {', '.join(FILES)}",
        f"give one made by {COMMAND}; nothing was unpacked",
    )
