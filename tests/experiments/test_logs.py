"""The logs of jobs, found by sweep or run and followed to their end; how runs stand, for tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.slurm_jobs import call, start, submit

from experiments import logs
from experiments.jobs import ledger, watch
from experiments.jobs.logs import ALL, BLOCK, Job, follow, jobs_of, tail
from tinylora.settings.errors import FailureError

LOCAL = "hydra/launcher=local launcher.cpus=1"


def test_the_logs_of_a_sweep_are_followed_until_its_jobs_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = submit(tmp_path, "u=5 seed=0,1,2 steps=2", LOCAL)
    assert logs.main([sweep, "-f", "--outputs-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert [said.count(f"pack {number} of sweep {sweep}\n") for number in range(2)] == [1, 1], said
    assert f"of sweep {sweep}, packs 0, 1: {tmp_path}" in said
    finished = [
        json.loads(line) for line in call("status", f"{sweep} --json --outputs-dir {tmp_path}").stdout.splitlines()
    ]
    assert [run["state"] for run in finished] == ["finished"] * 3 and len({run["run"] for run in finished}) == 3

    key = finished[0]["run"]
    for given in (key[:6], str(tmp_path / key)):
        assert logs.main([given, "--lines", "1", "--outputs-dir", str(tmp_path)]) == 0
        (errors, last, output, other) = capsys.readouterr().out.splitlines()
        assert errors.endswith("_log.err") and output.endswith("_log.out") and last in said and other in said


def test_a_run_has_the_logs_of_the_job_that_had_it_last(tmp_path: Path) -> None:
    start(tmp_path, f"u=5 seed=0,1 pack.max_lanes=1 {LOCAL} launcher.dry_run=true")
    (sweep,) = ledger.all_sweeps(tmp_path)
    (dry,) = sweep.submissions
    first = ledger.Submission(2, 1.0, dry.kind, [], {}, {}, dry.packs, ["7_0", "7_1"])
    again = ledger.Submission(3, 2.0, dry.kind, [], {}, {}, dry.packs[1:], ["9"])
    asked = ledger.Sweep(sweep.folder, sweep.runs, [again, first, dry])
    names = {keys: [job.name for job in jobs_of(keys.split(), [asked])] for keys in (*sweep.runs, " ".join(sweep.runs))}
    (one,), (other,) = dry.packs
    assert names == {one: ["7_0"], other: ["9"], " ".join(sweep.runs): ["7_0", "9"]}


@pytest.mark.parametrize("lines", [1, 3, 10_000, ALL])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_end_of_a_log_is_found_without_reading_it_all(lines: int, end: str, tmp_path: Path) -> None:
    written = [f"{number} " + "x" * 100 for number in range(3 * BLOCK // 100)]
    (tmp_path / "log").write_text("\n".join(written) + end)
    text, size = tail(tmp_path / "log", lines)
    assert text.decode() == "\n".join(written[-lines:]) + end and size == (tmp_path / "log").stat().st_size


def test_an_empty_log_has_no_end(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert tail(tmp_path / "log", 3) == (b"", 0)


def test_what_has_no_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        assert logs.main([*words, "--outputs-dir", str(tmp_path)]) == 2
        return capsys.readouterr().err

    assert "no sweep and no run" in refused("nope")
    start(tmp_path, f"u=5,6 {LOCAL} launcher.dry_run=true")
    (sweep,) = ledger.all_sweeps(tmp_path)
    assert "no job has had it" in refused(sweep.id)
    assert "no job has had it" in refused(next(iter(sweep.runs)))
    assert "several sweeps or runs" in refused("")
    assert "--lines -1" in refused(sweep.id, "--lines", "-1")
    assert "not allowed with" in call("status", "--json --watch").stderr


def test_who_follows_waits_where_slurm_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path, f"u=5 {LOCAL} launcher.dry_run=true")
    (sweep,) = ledger.all_sweeps(tmp_path)
    (dry,) = sweep.submissions
    folder = sweep.place(dry) / ledger.JOBS
    (folder / "7_0_log.err").write_text("known\nadded\nwithout an end")
    answers = iter([FailureError("SLURM does not answer: busy", "", "")] * 2)

    class Answering:
        def __init__(self, sweeps: object) -> None:
            if (error := next(answers, None)) is not None:
                raise error

        def packs(self, sweep: object) -> list[object]:
            return []

    monkeypatch.setattr(watch, "Active", Answering)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    job = Job(sweep, dry, "7", (0,))
    assert [text for *_, text in follow([job], {folder / "7_0_log.err": 6})] == [b"added\nwithout an end"]
    assert capsys.readouterr().err.count("SLURM does not answer") == 1
