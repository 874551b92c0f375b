"""Whether further draws agree with what a study has decided: the claims of two reports, side by side.

    python -m analysis.statistics.agreement reports/study/claims.csv reports/again/claims.csv

The second report is of other draws of P, at the rates that the study found. A decided verdict agrees where the effect
of the other draws lies on the same side of the criterion's bound, or within the margin of an equivalence. Its interval
is not asked: fewer draws have a wider one. Effects that rest on the draws which chose a rate are left out: they are the
study's own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from tinylora.settings.errors import TinyLoraError, UsageError
from tinylora.settings.paths import absolute
from tinylora.settings.streams import printing

HOLDS, REVERSED, EQUIVALENT = "holds", "reversed", "equivalent"
SAME_DRAWS = "rates chosen on the same draws"
"""The note of an effect for which a rate was searched on the draws that it is measured on."""
KEY = ["claim", "measured_on"]
AT_ACCURACY = r" at [0-9.]+%$"
"""The accuracy at which sizes are compared follows from the draws: it is no part of what is compared."""
NEEDED = {*KEY, "effect", "bound", "upper", "margin", "verdict", "notes"}


def agreement(study: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """A row for each decided verdict of the study that the other draws have an effect for; `agrees` says whether.

    Both are tables of claims (`claims.csv`). Columns: claim, measured_on, verdict, effect, again, agrees.
    """
    fresh = again[~again["notes"].fillna("").str.contains(SAME_DRAWS, regex=False)]
    decided = study[study["verdict"].isin((HOLDS, REVERSED, EQUIVALENT))]
    one, two = (
        table.assign(measured_on=table["measured_on"].str.replace(AT_ACCURACY, "", regex=True))
        for table in (decided, fresh[[*KEY, "effect"]].dropna())
    )
    both = one.merge(two, on=KEY, suffixes=("", "_again"), validate="one_to_one")
    both["agrees"] = [_agrees(row) for row in both.to_dict("records")]
    return both[[*KEY, "verdict", "effect", "effect_again", "agrees"]].rename(columns={"effect_again": "again"})


def _agrees(row: dict[str, object]) -> bool:
    effect, bound = float(str(row["effect_again"])), float(str(row["bound"]))
    if row["verdict"] == EQUIVALENT:
        return abs(effect - bound) < float(str(row["margin"]))
    meets = effect < bound if row["upper"] else effect > bound
    return meets == (row["verdict"] == HOLDS)


def read_claims(given: str) -> pd.DataFrame:
    """The claims of a report. UsageError where the file is none."""
    path = absolute(given, "claims.csv")
    try:
        claims = pd.read_csv(Path(path))
        if lacking := NEEDED - set(claims):
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: {error}", "it is the claims.csv of a report", "make one with python -m analysis.build"
        ) from error
    return claims


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the share that agrees; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.statistics.agreement", description="Claims, again.")
    parser.add_argument("study", help="claims.csv of the study's report")
    parser.add_argument("again", help="claims.csv of the report of other draws")
    options = parser.parse_args(arguments)
    try:
        found = agreement(read_claims(options.study), read_claims(options.again))
        if found.empty:
            raise UsageError(
                f"{options.study} and {options.again}: no decided claim that both have",
                "effects are compared that the first report has decided and the second has measured",
                "give the reports of a study and of other draws of it",
            )
    except TinyLoraError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(found.to_markdown(index=False, floatfmt=".3g"))
    print(f"\n{int(found['agrees'].sum())} of {len(found)} decided verdicts agree")
    return 0


if __name__ == "__main__":
    sys.exit(printing(main))
