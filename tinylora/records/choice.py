"""Which v of a run is meant: that of a step, the last one, or the best by validation."""

from __future__ import annotations

from collections.abc import Sequence

from tinylora.records.folder import RunFolder, Status
from tinylora.records.kept import KeptV, read_kept
from tinylora.records.measured import MetricLine
from tinylora.settings.errors import UsageError

LAST, BEST = "last", "best"
SCORE = "eval/validation/sampled_strict"
"""By which the best step is chosen: never by the test set."""
LISTED = 12  # steps that an error names


def require_word(word: str) -> None:
    """Raise UsageError for what is neither a step nor one of the two words."""
    if word not in (LAST, BEST) and not word.isdecimal():
        raise UsageError(
            f"--step {word}",
            f"v is of a step, a number from 0; {LAST} is that of the finished run, {BEST} the best by validation",
            f"give --step {LAST}, {BEST} or the number of a step that was evaluated",
        )


def chosen_v(folder: RunFolder, word: str) -> tuple[int, KeptV | None]:
    """The step that a word means of a run, and its kept v; None where that is the v in the adapter file.

    Raises UsageError where the run has not finished, the word means no step, or v of the step is not there.
    """
    require_word(word)
    lines, finished = folder.lines(), folder.status() is Status.finished
    last = folder.config.training_steps if finished else None
    kept = {each.step: each for each in read_kept(folder.path)}
    given = f"--step {word} of run {folder.path.name}"
    if word == LAST and last is None:
        status = folder.status()
        raise UsageError(
            f"{given}, which is {status.value if status else 'not begun'}",
            "its last v is written when it has finished",
            f"let it finish, or give another step: {_listed(kept)}",
        )
    step = last if word == LAST else _best(lines, given, kept) if word == BEST else int(word)
    assert step is not None, "a run without a last step is refused above"
    if step == last:
        return step, None
    if step not in kept:
        raise UsageError(
            given if word != BEST else f"{given}, which is step {step}",
            "v is kept at the evaluations of small adapters, from the version on that began to keep it: "
            f"of this run {_listed(kept)}",
            f"give one of these, or --step {LAST} where the run has finished",
        )
    return step, kept[step]


def _best(lines: Sequence[MetricLine], given: str, kept: dict[int, KeptV]) -> int:
    """The step of the best validation accuracy, the first where several are as good."""
    scores = {line.step: line.metrics[SCORE] for line in lines if SCORE in line.metrics}
    if not scores:
        raise UsageError(
            given,
            f"the best step is chosen by {SCORE}, which was not measured",
            f"give --step {LAST}, or one of: {_listed(kept)}",
        )
    return max(scores, key=lambda step: (scores[step], -step))


def _listed(kept: dict[int, KeptV]) -> str:
    steps = [str(step) for step in sorted(kept)]
    more = f" and {len(steps) - LISTED} more" if len(steps) > LISTED else ""
    return f"{', '.join(steps[:LISTED])}{more}" if steps else "none"
