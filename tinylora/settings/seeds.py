"""Named random streams: every draw of a run comes from a seed, a name and counters, by a stable hash.

A stream is a function of its name, not of what was drawn before. So a lane's noise at step 17 is the same alone, in a
pack, after a crash or in another process, and a checkpoint needs no generator state: the step counter says it all.
"""

from __future__ import annotations

import hashlib
import json
import random


def stream_seed(root: int, *name: str | int) -> int:
    """The 63-bit seed of the stream `name` below the root seed; stable across processes, machines and versions."""
    digest = hashlib.sha256(json.dumps([root, *name]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def python_stream(root: int, *name: str | int) -> random.Random:
    """A generator of Python's `random` for the stream `name`."""
    return random.Random(stream_seed(root, *name))
