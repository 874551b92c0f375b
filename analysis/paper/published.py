"""What the paper reports: its published values, and where they contradict each other.

`paper_results.csv` keeps for every value its source (printed in the text, or read off a plot) and how sure it is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "paper_results.csv"
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

CONTRADICTIONS = (
    (
        ("figure1", "table2"),
        "The untrained 7B model scores 76 in the text and 75.6 in Figure 1, 88.2 in Table 2 and "
        "58.8 in Figure 6. The 88.2 is SimpleRL-Zoo's score of the base model, though the table says Instruct; 76 fits "
        "strict scoring of the answer's format.",
    ),
    (
        ("figure6", "figure8", "table2"),
        "The untrained 3B model scores 76.0 in Table 2, 46.5 in Figure 6 and under 60 "
        "in Figure 8: different protocols.",
    ),
    (
        ("figure1", "table2"),
        "13 parameters reach 90.7 in Figure 1 (trained on GSM8K) and 91.8 in Table 2 (trained on "
        "MATH): two experiments, often mixed up.",
    ),
    (
        ("figure1", "figure2", "table2"),
        "On GSM8K the 7B model reaches 97 in Figure 1 and 98 in Figure 2, but at "
        "most 92.8 in Table 2; independent runs reach 91.6 to 93.4. 97 is no target for the test set.",
    ),
    (("figure1",), "Within 5% of full fine-tuning at 13 parameters (text): Figure 1 has 90.7 and 97.0, 6.3 points."),
    (("figure1",), "95% at 120 parameters (text): Figure 1 has 93.6 at 98, 94.9 at 196 and no point at 120."),
    (("figure1",), "82% and 5 points gained with 1 parameter (text): Figure 1 has 79.9, a gain of 4.3."),
    (("figure2",), "SFT reaches 83% at 13 and 84% at 120 parameters (text): Figure 2 has 1, 4, 25 and 196."),
    (("table2", "figure5"), "Three epochs on MATH at a batch of 256 are 100 steps; Figure 5 shows over 500."),
    (
        ("figure4",),
        "Figure 4's axis says bytes, but its positions (8, 14, 16, 21, 63, ...) count parameters and are "
        "the same for every precision. By true bytes tiled bf16 leads at 32 and 64 bytes (70.9 v 69.2, 77.0 v 74.3), "
        "fp32 at 256, and they are level at 128 and 512; per value fp32 leads everywhere.",
    ),
    (("figure5",), "Updates of 16 parameters are announced (section 6.3); the plot starts at 252 (3B) and 196 (7B)."),
    (("figure5",), "Larger updates give longer answers (text): for the 7B model; the 3B's largest has the shortest."),
    (("figure5",), "The text speaks of a negligible KL, the plot shows the mean probability difference."),
    (
        ("figure8", "figure9"),
        "Figures 8 and 9 plot one grid and differ by up to 3 points for heavily tied settings, "
        "and by 4 (87.0 v 83.2) for the 3B model at u=64 untied.",
    ),
)
"""By item: numbers of the paper that do not agree, and our reading."""


def contradictions(item: str) -> list[str]:
    """What of the paper's numbers for this item does not agree with others of it."""
    return [text for items, text in CONTRADICTIONS if item in items]


@functools.cache
def published() -> pd.DataFrame:
    """All published values, with our names for models (lower case), adapters and settings."""
    table = pd.read_csv(FILE, dtype=str, keep_default_na=False)
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
    return (
        wide.reindex(columns=[*TABLE_2_SETS.values(), "average"])
        .reset_index()
        .sort_values("trained_values", ignore_index=True)
    )
