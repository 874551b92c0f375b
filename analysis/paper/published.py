"""What the paper reports: its published values, and where they contradict each other.

`paper_results.csv` keeps for every value its source (printed in the text, or read off a plot) and how sure it is;
`contradictions.yaml` lists what does not agree.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

FOLDER = Path(__file__).parent
ADAPTERS = {
    "TinyLoRA": "tinylora",
    "LoRA-XS": "lora_xs",
    "LoRA": "lora",
    "full finetuning": "full",
    "none (untrained)": "none",
}
TABLE_2_SETS = {
    "GSM8K": "gsm8k",
    "MATH500": "math500",
    "Minerva": "minerva_math",
    "OlympiadBench": "olympiadbench",
    "AIME24": "aime24",
    "AMC23": "amc23",
}

TASKS = {"figure5": "math", "table2": "math"}
"""What the paper trains on for an item, where it is not GSM8K."""

CONTRADICTIONS = yaml.safe_load((FOLDER / "contradictions.yaml").read_text(encoding="utf-8"))
"""Numbers of the paper that do not agree, and our reading: `items` that they belong to, and `text`."""


def contradictions(item: str) -> list[str]:
    """What of the paper's numbers for this item does not agree with others of it."""
    return [each["text"] for each in CONTRADICTIONS if item in each["items"]]


@functools.cache
def published() -> pd.DataFrame:
    """All published values, with our names for models (lower case), adapters and settings."""
    table = pd.read_csv(FOLDER / "paper_results.csv", dtype=str, keep_default_na=False)
    method, tie = table["method"], table["sharing"]
    return pd.DataFrame(
        {
            "item": table["figure_or_table"].str.lower().str.replace(" ", ""),
            "model": table["model"].str.lower(),
            "dataset": table["dataset"],
            "adapter": method.str.replace(r" (u=|r_trainable).*", "", regex=True).map(ADAPTERS).fillna(""),
            "trained_values": pd.to_numeric(table["params"], errors="coerce"),
            "precision": table["precision"],
            "sharing": tie.where(tie.isin(["tiled", "structured"]), ""),
            "u": _number(method, r"u\)?=(\d+)"),
            "rank": _number(method, r"frozen r=(\d+)"),
            "n_tie": tie.str.extract(r"n_tie=(\d+)", expand=False).replace("512", "all").fillna(""),
            "metric": table["metric"],
            "value": pd.to_numeric(table["value"], errors="coerce"),
            "source": table["source"],
            "confidence": table["confidence"],
        }
    )


def _number(column: pd.Series, pattern: str) -> pd.Series:
    return pd.to_numeric(column.str.extract(pattern, expand=False), errors="coerce")


def values_of(item: str, models: Sequence[str], task: str) -> pd.DataFrame:
    """The published values of an item; empty where models or task are not the paper's."""
    table = published()
    own = (table["item"] == item) & table["model"].isin(models) & (task == TASKS.get(item, "gsm8k"))
    return table[own].reset_index(drop=True)


def accuracies(item: str, models: Sequence[str], task: str) -> pd.DataFrame:
    """The published accuracies of an item, as shares, with one row for each plotted point."""
    table = values_of(item, models, task)
    plain = table["metric"].str.fullmatch(r"pass@1 %( line| dashed line)?")
    return table[plain].assign(value=table["value"] / 100)


def table2(model: str) -> pd.DataFrame:
    """Table 2 of a model as shares: one row for each size, a column for each evaluation set, the printed average."""
    table = accuracies("table2", [model], "math")
    sets = table["dataset"].map(TABLE_2_SETS | {"average-of-6": "average"})
    wide = table.assign(dataset=sets).pivot(index=["adapter", "trained_values"], columns="dataset", values="value")
    wide.columns.name = None
    rows = wide.reindex(columns=[*TABLE_2_SETS.values(), "average"]).reset_index()
    return rows.sort_values("trained_values", ignore_index=True)
