"""What adapters were found to be worth after their training, from the evaluations.jsonl of their runs.

The file is that of `tinylora.records.evaluations`. Its results are shown run by run and never averaged.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from tinylora.records.evaluations import newest, parse_evaluations

WAYS = ("sampled_strict", "sampled_flexible", "greedy_strict")
COLUMNS = ("run_key", "label", "step", "suite", "problems", "samples", *WAYS)


def read_evaluated(contents: Iterable[tuple[str, str, bytes | None]]) -> tuple[pd.DataFrame, list[str]]:
    """The newest result of each step and suite of runs given as key, label and file; keys whose file is damaged.

    One row for each, with COLUMNS; accuracies are shares.
    """
    rows, unreadable = [], []
    for key, label, content in contents:
        lines, wrong = parse_evaluations(content) if content is not None else ([], None)
        if wrong is not None:
            unreadable.append(key)
            continue
        for line in newest(lines):
            problems, samples = line.outcomes.sampled_strict.shape
            scores = [line.metrics[f"eval/{line.suite}/{way}"] for way in WAYS]
            rows.append((key, label, line.step, line.suite, problems, samples, *scores))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(["label", "run_key", "suite", "step"], ignore_index=True), unreadable
