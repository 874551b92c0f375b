"""Safetensors files that notice a flipped bit, and whose bytes follow from their content.

Such a file is 8 bytes (the length of the header), the header (JSON: type, shape and place of each tensor, and
`__metadata__`) and the tensors. The format has no check of its own. So the metadata get a `digest` over everything
else, and an order: the library writes them in a random one.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

METADATA, DIGEST = "__metadata__", "digest"


def with_digest(content: bytes) -> tuple[bytes, memoryview]:
    """A safetensors file with sorted metadata and the digest of all of it among them, as header and tensors."""
    header, start = _header(content)
    metadata = header.get(METADATA, {})
    metadata.pop(DIGEST, None)
    tensors = memoryview(content)[start:]
    header[METADATA] = dict(sorted(metadata.items())) | {DIGEST: _digest(header, tensors)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text, tensors


def is_whole(path: Path) -> bool:
    """Whether a file is as it was written, by its digest; files of earlier versions have none and are trusted."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header, start = _header(content)
            recorded = header.get(METADATA, {}).get(DIGEST)
            with memoryview(content) as whole, whole[start:] as tensors:
                return recorded is None or recorded == _digest(header, tensors)
    except (OSError, ValueError, RecursionError):
        return False


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, of which the header alone is read. Raises OSError, or ValueError where it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(file.read(length))
    metadata = header.get(METADATA) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("it has no metadata")
    return metadata


def _header(content: bytes | mmap.mmap) -> tuple[dict[str, Any], int]:
    """The header and where the tensors begin."""
    start = 8 + int.from_bytes(content[:8], "little")
    if start > len(content):
        raise ValueError("the header is longer than the file")
    header = json.loads(content[8:start])
    if not isinstance(header, dict) or not isinstance(header.get(METADATA, {}), dict):
        raise ValueError("its header is no safetensors header")
    return header, start


def _digest(header: dict[str, Any], tensors: memoryview) -> str:
    """64 hex digits over tensors, and over the header but for the digest."""
    metadata = {name: value for name, value in header.get(METADATA, {}).items() if name != DIGEST}
    state = hashlib.sha256(json.dumps(header | {METADATA: metadata}, sort_keys=True).encode())
    state.update(tensors)
    return state.hexdigest()
