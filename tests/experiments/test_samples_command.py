"""`experiments.samples` on runs that were trained: what it shows of them, for people and for tools; what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.packs import point

from experiments import samples
from experiments.display import visible
from experiments.jobs import ledger
from tinylora.records.folder import CONFIG, Unmirrored
from tinylora.records.progress import Silent
from tinylora.records.samples import SAMPLES, read_samples
from tinylora.settings.config import EvalConfig, RunConfig
from tinylora.train.loop import run_pack

STEPS = 4


def points(outputs: Path) -> list[RunConfig]:
    """Lanes that learn enough for some answers to flip."""
    small = EvalConfig(every=2, test_items=8, validation_items=4)
    return [point(outputs, u=u, seed=u, steps=STEPS, lr=0.1, eval=small) for u in (13, 5)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("trained") / "outputs"
    run_pack(points(outputs), ["a", "b"], Silent(), Unmirrored())
    ledger.sweep_of(points(outputs), ["a", "b"]).save()
    return outputs


def show(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    """What the command prints."""
    capsys.readouterr()
    assert samples.main([str(word) for word in words]) == status, capsys.readouterr().err
    return capsys.readouterr().out


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    """What it prints for tools."""
    return [json.loads(line) for line in show(capsys, *words, "--json").splitlines()]


def test_a_run_is_shown_whole_by_folder_or_key(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = points(trained)[0]
    by_folder = show(capsys, config.folder)
    assert by_folder == show(capsys, config.run_key[:6], "--outputs-dir", trained)
    recorded = read_samples(config.folder / SAMPLES)[0]
    assert by_folder.startswith(f"run {config.run_key}  u=13 fp32 seed=13: {len(recorded)} samples, evaluations from")
    assert by_folder.count("\n    completion  ") == by_folder.count("\n    prompt      ") == len(recorded)
    for sample in recorded:
        assert f"    completion  {sample.completion}\n" in by_folder and f"gold {sample.gold}, " in by_folder


def test_json_holds_the_records(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = points(trained)[1]
    found = shown(capsys, config.folder)
    assert [
        {name: value for name, value in record.items() if name not in ("run", "label", "flip")} for record in found
    ] == [vars(sample) for sample in read_samples(config.folder / SAMPLES)[0]]
    assert {(record["run"], record["label"]) for record in found} == {(config.run_key, "u=5 fp32 seed=5")}


def test_a_sweep_is_shown_by_outputs_dir_folder_or_id_and_lane_by_lane(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ledger.all_sweeps(trained)[0]
    whole = shown(capsys, trained)
    assert {record["run"] for record in whole} == {config.run_key for config in points(trained)}
    by_key = sorted(whole, key=lambda record: record["run"])
    for words in ((sweep.folder,), (sweep.id, "--outputs-dir", trained)):
        assert sorted(shown(capsys, *words), key=lambda record: record["run"]) == by_key
    for config in points(trained):
        for lane in (f"u={config.u}", f"seed={config.seed} u={config.u}", config.run_key[:5]):
            assert {record["run"] for record in shown(capsys, trained, "--lane", lane)} == {config.run_key}


def test_what_was_asked_for_is_shown(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = shown(capsys, trained)
    assert {record["step"] for record in whole} == {0, 1, 2, STEPS}
    for words, wanted in (
        (("--step", "2"), lambda record: record["step"] == 2),
        (("--step", "first"), lambda record: record["step"] == 0),
        (("--step", "last", "--kind", "greedy"), lambda record: record["step"] == STEPS and record["kind"] == "greedy"),
        (("--outcome", "wrong"), lambda record: record["strict"] == "wrong"),
        (("--kind", "worst"), lambda record: record["kind"] == "worst"),
    ):
        chosen = [record for record in whole if wanted(record)]
        assert shown(capsys, trained, *words) == chosen and 0 < len(chosen) < len(whole)
    assert "none of them is as was asked for" in show(capsys, trained, "--outcome", "timeout")


def test_flips_are_marked_and_shown_together(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, flips = shown(capsys, trained), shown(capsys, trained, "--flips")
    right = {
        (record["run"], record["suite"], record["problem"], record["kind"], record["step"]): record["strict"]
        == "correct"
        for record in whole
    }
    flipped = {key[:4] for key in right if key[4] == 0 and right[key] != right[*key[:4], STEPS]}
    assert {tuple(flip[name] for name in ("run", "suite", "problem", "kind")) for flip in flips} == flipped
    assert len(flips) == len(flipped) > 0, "the test needs answers that flip"
    for flip in flips:
        assert (flip["before"]["step"], flip["after"]["step"]) == (0, STEPS)
        assert flip["flip"] == ("wrong -> right" if flip["after"]["strict"] == "correct" else "right -> wrong")
    marked = {tuple(record[name] for name in ("run", "suite", "problem", "kind")) for record in whole if record["flip"]}
    assert marked == flipped and all(record["step"] in (0, STEPS) for record in whole if record["flip"])
    page = show(capsys, trained, "--flips")
    assert page.count("  [wrong -> right]\n") + page.count("  [right -> wrong]\n") == len(flips)
    assert page.count("\n  step 0: ") == page.count(f"\n  step {STEPS}: ") == len(flips)
    greedy = [flip for flip in flips if flip["kind"] == "greedy"]
    assert shown(capsys, trained, "--flips", "--kind", "greedy") == greedy
    wrong = [flip for flip in flips if flip["after"]["strict"] == "wrong"]
    assert shown(capsys, trained, "--flips", "--outcome", "wrong") == wrong


def test_a_long_prompt_is_cut_on_the_screen_alone(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LONGEST_PROMPT", 5)
    page, found = show(capsys, trained, "--step", "1"), shown(capsys, trained, "--step", "1")
    for record in found:
        assert f"    prompt      {record['prompt'][:5]} [... {len(record['prompt']) - 5} more characters]\n" in page


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    assert visible("\x1b[2J\u202eé 1\t2\x7f") == "\\x1b[2J\\u202eé 1\\t2\\x7f"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "outputs")
    return tmp_path / "outputs"


def test_runs_that_cannot_be_shown_are_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = points(copy)
    (first.folder / SAMPLES).unlink()
    assert second.run_key in show(capsys, copy)
    samples.main([str(copy)])
    assert f"not shown: {first.folder / SAMPLES}" in capsys.readouterr().err
    assert samples.main([str(first.folder)]) == 2
    assert "earlier versions recorded none" in capsys.readouterr().err
    content = (second.folder / SAMPLES).read_bytes()
    (second.folder / SAMPLES).write_bytes(content[:-3])
    kept = show(capsys, second.folder, status=1)
    assert "step 2" in kept and f"step {STEPS} " not in kept
    samples.main([str(second.folder)])
    assert "read no further than its part 4: it is cut" in capsys.readouterr().err
    (second.folder / CONFIG).write_text("{")
    assert samples.main([str(second.folder)]) == 1
    assert CONFIG in capsys.readouterr().err


WRONG = {
    "nowhere": (["{outputs}/nowhere"], "no run in"),
    "no run's key": (["zzz", "--outputs-dir", "{outputs}"], "no run in"),
    "a key of all": (["", "--outputs-dir", "{outputs}"], "several runs or sweeps in"),
    "no outputs_dir": (["zzz", "--outputs-dir", "{outputs}/nowhere"], "no run in"),
    "a folder without runs": (["{outputs}/sweeps"], "no run"),
    "an unknown kind": (["{outputs}", "--kind", "middling"], "greedy, sample, best, worst"),
    "an unknown outcome": (["{outputs}", "--outcome", "right"], "correct, wrong, no_answer"),
    "a step in words": (["{outputs}", "--step", "second"], "first and last"),
    "a negative step": (["{outputs}", "--step=-1"], "a number from 0"),
    "a step without samples": (["{outputs}", "--step", "3"], "0, 1, 2, 4"),
    "an unknown lane": (["{outputs}", "--lane", "u=7"], "u=13 seed=13, u=5 seed=5"),
    "flips of one step": (["{outputs}", "--flips", "--step", "first"], "between the first evaluation and the last"),
    "flips of training": (["{outputs}", "--flips", "--kind", "best"], "ask the same problem twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words_are_refused(name: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, says = WRONG[name]
    assert show(capsys, *(word.replace("{outputs}", str(trained)) for word in words), status=2) == ""
    samples.main([word.replace("{outputs}", str(trained)) for word in words])
    said = capsys.readouterr().err
    assert says in said and "\n  rule:   " in said and "\n  remedy: " in said and "Traceback" not in said


def test_on_a_terminal_it_is_read_in_a_pager(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paged: list[str] = []
    monkeypatch.setattr("pydoc.pager", paged.append)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    samples.main([str(points(trained)[0].folder), "--step", "1"])
    assert len(paged) == 1 and paged[0].count("    completion  ") == 2 and "\x1b" not in paged[0]
