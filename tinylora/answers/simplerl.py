r"""The strict rule of SimpleRL-Zoo for MATH, as far as it is documented: the last `\boxed{...}`, judged by Math-Verify.

Its reward is 1 for an answer that Math-Verify finds equal to the gold answer, both in a box. Without a box there is no
reward here: of the forms of its reward that its code has, none gives the full reward in every case, and the paper names
none. What is read is the last box of the whole completion; Math-Verify alone decides, with its own settings, also where
a fair reader would say otherwise. It runs in a worker process, and is about ten times as slow as our own checker.
"""

from __future__ import annotations

from tinylora.answers.extraction import last_box

LONGEST = 3000  # characters of an answer; a longer one is wrong: no gold answer has a tenth of that


def answer_of(completion: str) -> str | None:
    """What is judged; None where there is no box."""
    return last_box(completion)


def same(gold: str, answer: str) -> bool:
    """The verdict of Math-Verify. In a worker process alone."""
    from math_verify import parse, verify

    if answer.strip() == gold.strip():
        return True
    # Its own time limits are signals, of which a worker has one already.
    parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
    return bool(verify(*parsed, timeout_seconds=None))
