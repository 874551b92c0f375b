r"""A worker process: reads jobs as JSON lines, answers each with two lines, and ends with its input.

    {"kind": "math", "gold": ..., "answer": ..., "tolerance": ...}                      -> true or false
    {"kind": "simplerl", "gold": ..., "answer": ...}                                    -> true or false
    {"kind": "reasoning_gym", "generator": ..., "options": ..., "seed": ..., "index": ..., "size": ..., "answer": ...}
                                                                                        -> a score, 0.0 to 1.0

The first line, `"started"`, is written once the packages that the job needs are imported: from then on its time counts.
The second is {"verdict": ...}, or {"error": ...} with what went wrong, or {"missing": ...} with the package that is
not installed. Should the parent die while a job runs for ever, an alarm ends the worker.

    python -m tinylora.answers.worker <seconds per job> <bytes of memory>
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from tinylora.answers.equivalence import equivalent

GRACE = 5  # seconds that the alarm waits beyond the time of a job: the parent is first to end it


def main() -> None:
    """Answers jobs until the input ends."""
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(ValueError, OSError):  # not every system limits the address space
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Answers go to a copy of standard output, since packages print on the original.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        reply = _reply(json.loads(line), seconds, lambda: print('"started"', file=output, flush=True))
        print(json.dumps(reply), file=output, flush=True)


def _reply(job: dict[str, Any], seconds: float, started: Callable[[], None]) -> dict[str, Any]:
    judge, package = JUDGES[job.pop("kind")]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        started()
        return {"missing": error.name}
    started()
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)  # the default action of its signal ends the process
    try:
        return {"verdict": judge(**job)}
    except Exception as error:  # packages raise whatever they like on hostile answers, and the job is the culprit
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _judge_math(gold: str, answer: str, tolerance: float = 0.0) -> bool:
    from tinylora.answers.symbolic import equal

    return bool(equivalent(gold, answer, equal, tolerance))


def _judge_simplerl(gold: str, answer: str) -> bool:
    from tinylora.answers.simplerl import same

    return same(gold, answer)


def _judge_entry(generator: str, options: dict[str, Any], seed: int, index: int, size: int, answer: str) -> float:
    dataset = _dataset(generator, json.dumps(options), seed, size)
    return float(dataset.score_answer(answer, dataset[index]))


@functools.lru_cache(maxsize=8)
def _dataset(generator: str, options: str, seed: int, size: int) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(generator, seed=seed, size=size, **json.loads(options))


JUDGES: dict[str, tuple[Callable[..., Any], str]] = {
    "math": (_judge_math, "tinylora.answers.symbolic"),
    "simplerl": (_judge_simplerl, "math_verify"),
    "reasoning_gym": (_judge_entry, "reasoning_gym"),
}

if __name__ == "__main__":
    main()
