"""The study in the README: its main figure, and its table of claims between two marks, taken from a report.

python -m analysis.readme reports/study

`make study-records` runs it, after the records are packed; a test holds the README against these.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tinylora.errors import TinyLoraError, UsageError
from tinylora.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
STUDY = Path(__file__).resolve().parent / "study"
MODELS = ("miniature-qwen2", "miniature-llama")
BEGIN, END = "<!-- claims of the study, by `make study-records` -->\n", "<!-- end -->\n"


def main(arguments: list[str] | None = None) -> int:
    """Bring figures and table up to date; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.readme", description="The study in the README.")
    parser.add_argument("report", type=Path, help="folder of the study's report (analysis.build --out)")
    report = parser.parse_args(arguments).report
    try:
        table = (report / "claims-by-model.md").read_text(encoding="utf-8")
        figures = {f"figure1-{model}.svg": figure_1(report, model).read_bytes() for model in MODELS}
        STUDY.mkdir(exist_ok=True)
        for name, content in figures.items():
            write_atomically(STUDY / name, content)
        write_atomically(README, with_table(README.read_text(encoding="utf-8"), table).encode())
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; make the report with analysis.build first", file=sys.stderr)
        return 1
    except TinyLoraError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def figure_1(report: Path, model: str) -> Path:
    """Figure 1 of a model, as the report names it: without the model where there is one alone."""
    named = report / f"figure1-{model}-sums.svg"
    return named if named.exists() else report / "figure1.svg"


def with_table(readme: str, table: str) -> str:
    """The README with this table between its marks."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise UsageError("README.md lacks its marks", f"the table stands between {BEGIN.strip()} and {END.strip()}",
                         "put them back")  # fmt: skip
    return f"{before}{BEGIN}\n{compact(table)}\n{END}{after}"


def compact(table: str) -> str:
    """A Markdown table without the padding of its cells."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in table.strip().splitlines()]
    rows[1] = ["---"] * len(rows[0])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
