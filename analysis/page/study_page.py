"""The study in its document, `docs/study.md`: its main figure and its table of claims, taken from a report.

python -m analysis.page.study_page reports/study

They stand between two marks; what is written around them stays. `make study-records` runs this after the records are
archived, and a test compares the document with a report made from these records.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tinylora.settings.errors import TinyLoraError, UsageError
from tinylora.settings.files import write_atomically
from tinylora.settings.paths import absolute
from tinylora.settings.streams import printing

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "study.md"
STUDY = ROOT / "analysis" / "study"
MODELS = ("miniature-qwen2", "miniature-llama")
BEGIN, END = "<!-- by `make study-records` -->\n", "<!-- end -->\n"


def main(arguments: list[str] | None = None) -> int:
    """Bring figures and table up to date; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.page.study_page", description="The study in docs/study.md."
    )
    parser.add_argument("report", help="folder of the study's report (analysis.build --out)")
    given = parser.parse_args(arguments).report
    try:
        report = absolute(given, "report")
        text = shown(report)
        for model, path in figures(report).items():
            write_atomically(STUDY / f"figure1-{model}.svg", path.read_bytes())
        write_atomically(DOCUMENT, between_marks(DOCUMENT.read_text(encoding="utf-8"), text).encode())
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; make the report with analysis.build first", file=sys.stderr)
        return 1
    except TinyLoraError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def figures(report: Path) -> dict[str, Path]:
    """Figure 1 of each model that has one: its title names the model, its file only where there are several."""
    found = {path: path.read_text(encoding="utf-8") for path in sorted(report.glob("figure1*.svg"))}
    return {model: path for model in MODELS for path, text in found.items() if f">{model}, sums" in text}


def shown(report: Path) -> str:
    """What stands between the marks: figures and claims."""
    images = [
        f'<img src="../analysis/study/figure1-{model}.svg" width="49%" alt="Figure 1 on {model}">'
        for model in figures(report)
    ]
    table = (report / "claims-by-model.md").read_text(encoding="utf-8")
    return "\n".join([" ".join(images), "", compact(table)])


def between_marks(document: str, text: str) -> str:
    """The document with this text between its marks. UsageError where it lacks them."""
    before, found, rest = document.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise UsageError(
            "docs/study.md lacks its marks",
            f"the study stands between {BEGIN.strip()} and {END.strip()}",
            "put them back",
        )
    return f"{before}{BEGIN}{text}{END}{after}"


def compact(table: str) -> str:
    """A Markdown table without the padding of its cells."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in table.strip().splitlines()]
    rows[1] = ["---"] * len(rows[0])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(printing(main))
