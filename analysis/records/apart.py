"""Runs with the same settings that were made with other files, told apart by the digests in their records.

A setting names a model or a data set, and a name can come to hold other files. So where runs that ought to agree in a
digest do not, the digest becomes a setting of theirs: `made_with.model_digest` and so on. They are then in different
cells, lines and figures, with the digest in their labels. A record that lacks a digest is taken to have the one that is
known for the same model and data; where several are known, it stands apart, too.
"""

from __future__ import annotations

import pandas as pd

from tinylora.records.digests import DIGESTS

MADE_WITH = "made_with."
"""Beginning of the settings that are digests."""
ABSENT = "absent"
OF_THE_MODEL = ("model_digest", "tokenizer_digest")
FREE = ("u", "n_tie", "sharing", "precision", "rounding", "rank", "lr", "seed", "steps", "model.dtype")
"""Settings on which no digest depends; nor does one on those of the adapter."""


def told_apart(runs: pd.DataFrame, settings: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The runs with a column `made_with.<digest>` for each digest that tells some of them apart, and notes on it.

    `settings` are columns of `runs`, and so are the digests, as text that is "" where a record does not say.
    """
    columns, notes = {}, []
    for digest in (name for name in DIGESTS if name in runs):
        fixed = [name for name in settings if name not in FREE and not name.startswith("adapter.")]
        fixed = [name for name in fixed if name.startswith("model.") or digest not in OF_THE_MODEL]
        values = runs[digest].astype(object).fillna("").replace("None", "")
        groups = runs.groupby(fixed, dropna=False, sort=True).ngroup() if fixed else pd.Series(0, index=runs.index)
        apart = pd.Series("", index=runs.index, dtype=object)
        for _, own in values.groupby(groups, sort=True):
            known = sorted(set(own) - {""})
            counts = own.replace("", ABSENT).value_counts()
            if len(known) > 1:
                apart.loc[own.index] = own.replace("", ABSENT)
                notes.append(_differ(runs.loc[own.index[0]], digest, counts))
            elif known and (own == "").any():
                notes.append(_lack(runs.loc[own.index[0]], digest, counts, known[0]))
        if (apart != "").any():
            columns[f"{MADE_WITH}{digest}"] = apart
    return runs.assign(**columns), list(dict.fromkeys(notes))


def _differ(run: pd.Series, digest: str, counts: pd.Series) -> str:
    parts = ", ".join(f"{value} in {count} run(s)" for value, count in counts.sort_index().items())
    return f"Runs of {_what(run)} with the same settings differ in {digest} ({parts}): they are shown apart."


def _lack(run: pd.Series, digest: str, counts: pd.Series, known: str) -> str:
    return (
        f"The records of {counts[ABSENT]} run(s) of {_what(run)} do not say their {digest} (absent): they are taken "
        f"to have {known}, the only one that is known for it."
    )


def _what(run: pd.Series) -> str:
    return f"{run.get('model.name', '')} on {run.get('task.name', '')}"


def apart_settings(runs: pd.DataFrame) -> list[str]:
    """The settings of a frame of runs or cells that are digests."""
    return [name for name in runs if str(name).startswith(MADE_WITH)]
