"""The claims table, recomputed from an archive of the same runs by a script that shares no code with the report."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pandas as pd
import pytest
from support import made_study, recompute, recompute_claims

from analysis.page import report
from analysis.records import load
from benchmarks.report import create_store


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    made = made_study.runs()
    create_store(folder / "mlflow.db")
    made_study.write_store(folder / "mlflow.db", made, folder / "artifacts")
    made_study.write_archive(folder / "records.tar.xz", made)
    records = load.load(f"sqlite:///{folder / 'mlflow.db'}", "tinylora")
    for name, content in report.make_files(records, ("claims",), ("svg",)).items():
        (folder / name).write_bytes(content)
    return folder


def test_every_effect_interval_and_verdict_is_found_again(study: Path) -> None:
    assert recompute.differences(study / "records.tar.xz", study / "claims.csv") == []
    table = pd.read_csv(study / "claims.csv").set_index("claim")["verdict"].to_dict()
    assert table["13 parameters keep most of full fine-tuning's gain"] == "holds"
    assert table["SFT needs 100 to 1000 times the parameters of RL"] == "not comparable"
    assert table["fp32 beats bf16 at equal parameters"] in ("equivalent", "inconclusive")
    assert {"holds", "reversed", "inconclusive", "not comparable"} <= set(table.values())


@pytest.mark.parametrize(("column", "value"), [("effect", "77.7"), ("low", "1.5"), ("verdict", "reversed")])
def test_a_table_that_says_otherwise_is_named(study: Path, tmp_path: Path, column: str, value: str) -> None:
    table = pd.read_csv(study / "claims.csv", dtype=str)
    row = table["claim"] == "13 parameters keep most of full fine-tuning's gain"
    table.loc[row, column] = value
    table.to_csv(tmp_path / "claims.csv", index=False)
    problems = recompute.differences(study / "records.tar.xz", tmp_path / "claims.csv")
    assert len(problems) == 2  # the row, and that what the records say is not there
    assert column in problems[0]


def test_it_imports_nothing_of_ours() -> None:
    for module in (recompute, recompute_claims):
        tree = ast.walk(ast.parse(inspect.getsource(module)))
        names = {n for node in tree for n in ([node.module] if isinstance(node, ast.ImportFrom) else [])}
        assert not {name for name in names if name and name.split(".")[0] in ("analysis", "tinylora", "experiments")}
