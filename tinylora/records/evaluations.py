"""What adapters were found to be worth after their training: evaluations.jsonl, a line for each and each suite.

    {"time": 1.0, "step": 60, "file": null, "key": "0123456789ab", "settings": {...}, "made_with": {...},
     "metrics": {"eval/test/sampled_strict": 0.5, ...}, "outcomes": {"suite": "test", "items": 1024, ...}}

The file lies in the folder of a run, or beside an adapter file that was evaluated alone. What the run itself has
measured is left as it is: whether the run is whole does not depend on this file. `step` is that of v in the run, `file`
a digest of an adapter file; one of them is null. `key` is a digest of all that the result depends on beside v: the
settings, and what `made_with` says of model, tokenizer, prompts, problems and checker. What is there by its key is not
evaluated again. `outcomes` is a line of items.jsonl (see `items`). The file is written anew with each line, so a kill
cuts none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylora.records.items import GREEDY, SAMPLED, ItemLine, parse_items
from tinylora.records.measured import LATEST, Metrics, require_metrics
from tinylora.records.reading import UNREADABLE, DamagedError, parse_lines, why_unreadable
from tinylora.settings.files import write_atomically

EVALUATIONS = "evaluations.jsonl"
TAG = "record/evaluations"
"""Of a run in MLflow: a digest of the file that the store has."""
FIELDS = ("time", "step", "file", "key", "settings", "made_with", "metrics", "outcomes")
KEY, FILE = re.compile(r"[0-9a-f]{12}"), re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Evaluated:
    """What one adapter was found to be worth on one suite."""

    time: float
    """Seconds since the epoch."""
    step: int | None
    file: str | None
    key: str
    settings: dict[str, Any]
    """Flat: what was asked, and how."""
    made_with: dict[str, Any]
    """Flat: digests and versions."""
    metrics: Metrics
    """Named as in a run's own evaluations."""
    outcomes: ItemLine

    @property
    def suite(self) -> str:
        """The name of the suite."""
        return self.outcomes.suite

    def text(self) -> str:
        """The line of evaluations.jsonl."""
        return json.dumps(vars(self) | {"outcomes": json.loads(self.outcomes.text())}) + "\n"


def read_evaluations(folder: Path) -> list[Evaluated]:
    """What the file in a folder holds; nothing where there is none. Raises DamagedError where it is not as written."""
    path = folder / EVALUATIONS
    try:
        lines, wrong = parse_evaluations(path.read_bytes()) if path.exists() else ([], None)
    except UNREADABLE as error:
        lines, wrong = [], why_unreadable(error)
    if wrong is not None:
        raise DamagedError(
            f"{path} is damaged: {wrong}",
            "it is read as it was written",
            "restore the file; or remove it: the run is whole without, and is evaluated anew",
        )
    return lines


def add_evaluation(folder: Path, line: Evaluated) -> None:
    """Add a line; on the disk when this returns. Raises DamagedError where the file is not as it was written."""
    lines = [*read_evaluations(folder), line]
    write_atomically(folder / EVALUATIONS, "".join(each.text() for each in lines).encode())


def newest(lines: Sequence[Evaluated]) -> list[Evaluated]:
    """The last line of each adapter and suite, in the order in which these were first evaluated."""
    return list({(line.step, line.file, line.suite): line for line in lines}.values())


def parse_evaluations(content: bytes) -> tuple[list[Evaluated], str | None]:
    """The lines of an evaluations.jsonl up to the first that is not whole, and what is wrong there."""
    return parse_lines(content, _parse_line)


def _parse_line(plain: Any) -> Evaluated:
    """A line. ValueError says what is wrong with it."""
    if not isinstance(plain, dict) or plain.keys() != set(FIELDS):
        raise ValueError(f"it has other fields than {', '.join(FIELDS)}")
    step, file = plain["step"], plain["file"]
    of_run, of_file = type(step) is int and step >= 0, isinstance(file, str) and FILE.fullmatch(file)
    if bool(of_run) is bool(of_file) or (step is None) is bool(of_run) or (file is None) is bool(of_file):
        raise ValueError("it is not of one adapter: of a step or of a file")
    if type(plain["time"]) not in (int, float) or not 0 <= plain["time"] < LATEST:
        raise ValueError("it has no time")
    if not isinstance(plain["key"], str) or not KEY.fullmatch(plain["key"]):
        raise ValueError("its key is not 12 hex digits")
    for name in ("settings", "made_with"):
        if not isinstance(plain[name], dict) or any(isinstance(each, dict | list) for each in plain[name].values()):
            raise ValueError(f"its {name} are no names with values")
    require_metrics(plain["metrics"])
    outcomes, wrong = parse_items(json.dumps(plain["outcomes"]).encode() + b"\n")
    if wrong is not None:
        raise ValueError(wrong)
    found = Evaluated(**plain | {"outcomes": outcomes[0]})
    for name in (*GREEDY, *SAMPLED):
        bits = getattr(found.outcomes, name)
        if found.metrics.get(f"eval/{found.suite}/{name}") != int(bits.sum()) / bits.size:
            raise ValueError(f"its outcomes and its metrics differ in {name}")
    return found
