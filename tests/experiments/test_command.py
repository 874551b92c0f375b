"""How commands end: on signals, however early, and on errors that hide one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.command import INTERRUPTED, run_command, stop_after
from tinylora.settings.errors import UsageError

ROOT = Path(__file__).parents[2]
SLOW = "import sys, time\nprint('importing', flush=True)\ntime.sleep(60)\n"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests were started by nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_threads_leave_the_processor_to_others_unless_the_user_says_how_they_wait(
    given: dict[str, str], spins: str
) -> None:
    code = "import os, experiments; print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"{spins}\n", done.stderr


@pytest.mark.parametrize("module", ["argparse", "pathlib"])  # which commands import before they do anything
def test_ctrl_c_while_a_command_is_imported_is_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text(SLOW)  # of the standard library: some module of any command imports it
    (tmp_path / f"{module}.py").write_text(SLOW)
    command = [sys.executable, "-S", "-m", "experiments.run", "u=13"]
    packages = sysconfig.get_path("purelib")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT, packages)))}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        message = process.stderr.read()
    assert process.returncode == INTERRUPTED and message == "interrupted; nothing has been started\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_as_ctrl_c_does(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: os.kill(os.getpid(), number)) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; the same command resumes\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_with_minutes_a_signal_asks_to_stop_before_the_next_step(number: int) -> None:
    stop = stop_after(float("inf"))
    os.kill(os.getpid(), number)
    assert stop.reason == "the process was told to end"


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    assert run_command(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    assert stop_after(float("inf")).reason is None and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_interrupt_that_became_another_error_is_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise UsageError("a setting", "that is not there", "as a library says in its midst") from None

    assert run_command(work) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; the same command resumes\n"
