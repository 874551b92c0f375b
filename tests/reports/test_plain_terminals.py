"""Commands print whatever takes their output: a terminal of ASCII, a pipe read no further, a full disk, nothing.

No public report stands behind these: they are of our own commands.
"""

from __future__ import annotations

import io
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.analysis_store import Store, create_store

from tinylora.settings import streams
from tinylora.settings.streams import UNREAD, UNWRITTEN, Output, printing

ROOT = Path(__file__).parents[2]
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FOREIGN = "h\u00e9llo \u2192 \u65e5\u672c"
BEGIN = "import sys\nfrom tinylora.settings.streams import printing\n"
SAY = BEGIN + f"sys.exit(printing(lambda: print({FOREIGN!a}) or print({FOREIGN!a}, file=sys.stderr) or 3))"
MANY = BEGIN + "sys.exit(printing(lambda: [print('line', n) for n in range(100_000)] and 0))"
NO_SPACE = "error: the output cannot be written: No space left on device\n"
COMMANDS = (
    "experiments.run",
    "experiments.plan",
    "experiments.status",
    "experiments.sync",
    "experiments.cancel",
    "experiments.questions",
    "experiments.records",
    "experiments.samples",
    "experiments.evaluate",
    "experiments.chat",
    "experiments.export",
    "experiments.pretrain",
    "analysis.build",
    "benchmarks.run",
)
FAST = ("experiments.sync", "experiments.plan")


def environment(without: str = "", **variables: str) -> dict[str, str]:
    """This process's variables, with others, and without one."""
    found = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return {name: value for name, value in found.items() if name != without}


def python(*words: str, folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=False)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which `$python` is this Python."""
    variables = environment(python=sys.executable)
    return subprocess.run(["bash", "-c", line], cwd=folder, env=variables, capture_output=True, text=True, check=False)


def into_closed_pipe(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What comes of a command whose output nobody reads, not even its first line."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=folder, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    "name", [each if each in FAST else pytest.param(each, marks=pytest.mark.slow) for each in COMMANDS]
)
def test_every_command_helps_on_a_terminal_of_ascii(name: str, tmp_path: Path) -> None:
    done = python("-m", name, "--help", folder=tmp_path, variables=environment(**ASCII))
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and name.rpartition(".")[2].encode() in done.stdout and b"Traceback" not in done.stderr


def test_characters_that_a_terminal_lacks_are_their_numbers(tmp_path: Path) -> None:
    done = python("-c", SAY, folder=tmp_path, variables=environment(**ASCII))
    said = FOREIGN.encode("ascii", "backslashreplace") + b"\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, said, said)
    done = python("-c", SAY, folder=tmp_path, variables=environment(PYTHONIOENCODING="utf-8"))
    assert (done.returncode, done.stdout.decode()) == (3, FOREIGN + "\n"), "others are left as they are"


@pytest.mark.parametrize(
    ("variables", "shown"),
    [({"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}, r"\xe9\u2192: no such folder"), (ASCII, r"\udcc3\udca9\udce2")],
    ids=["a terminal of ASCII", "and paths of ASCII"],
)
def test_an_error_that_names_such_characters_is_told(variables: dict[str, str], shown: str, tmp_path: Path) -> None:
    words = ("-m", "experiments.sync", "--outputs-dir", "\u00e9\u2192")
    done = python(*words, folder=tmp_path, variables=environment(**variables))
    assert done.returncode == 2 and done.stderr.isascii()
    given, rule, remedy = done.stderr.decode().splitlines()
    assert given.startswith("error: --outputs-dir") and shown in given
    assert rule.startswith("  rule: ") and remedy.startswith("  remedy: ")


@pytest.mark.slow
def test_a_report_is_built_on_a_terminal_of_ascii(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    create_store(tmp_path / "mlflow.db")
    store = Store(tmp_path / "mlflow.db")
    for seed in (0, 1):
        store.add({"model.name": FOREIGN, "seed": seed})
    reports = []
    for number, changes in enumerate((ASCII, {"PYTHONIOENCODING": "utf-8"})):
        words = ("-m", "analysis.build", "--outputs-dir", ".", "--out", f"report{number}", "--format", "svg")
        done = python(*words, folder=tmp_path, variables=environment(**changes))
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii() == (changes is ASCII) and b"index.html" in done.stdout
        reports.append({file.name: file.read_bytes() for file in (tmp_path / f"report{number}").iterdir()})
    assert reports[0] == reports[1] and FOREIGN.encode() in reports[0]["index.html"]


@pytest.mark.parametrize("lines", [1, 50])
def test_head_ends_a_command_without_a_word(lines: int, tmp_path: Path) -> None:
    done = shell(f'"$python" -c {shlex.quote(MANY)} | head -{lines}; echo ${{PIPESTATUS[0]}}', tmp_path)
    assert done.stdout.splitlines() == [f"line {n}" for n in range(lines)] + [str(UNREAD)]
    assert done.stderr == "" and UNREAD == 141


@pytest.mark.parametrize("words", [("-c", MANY), ("-m", "experiments.run", "--help")], ids=["many lines", "help"])
def test_output_that_nobody_reads_ends_a_command_without_a_word(words: tuple[str, ...], tmp_path: Path) -> None:
    done = into_closed_pipe(*words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (UNREAD, "")


@pytest.mark.parametrize("words", [("-c", MANY), ("-m", "experiments.run", "--help")], ids=["many lines", "help"])
def test_a_full_device_is_one_message(words: tuple[str, ...], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (UNWRITTEN, NO_SPACE)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_end_a_command(closed: str, tmp_path: Path) -> None:
    """What is said goes nowhere, and above all not into a file that the command opens."""
    code = BEGIN + (
        "def main():\n"
        "    with open('made', 'w') as made:\n"
        "        print('to', 'output')\n"
        "        print('to', 'error', file=sys.stderr)\n"
        "        made.write('its own')\n"
        "    return 3\n"
        "sys.exit(printing(main))\n"
    )
    done = shell(f'"$python" -c {shlex.quote(code)} {closed}', tmp_path)
    assert done.returncode == 3
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "to output\n")
    assert done.stderr == ("" if "2>&-" in closed else "to error\n")
    assert (tmp_path / "made").read_text() == "its own"


def test_a_command_with_closed_streams_keeps_its_status(tmp_path: Path) -> None:
    line = '"$python" -m experiments.sync --outputs-dir nowhere'
    assert shell(f"{line} <&- >&- 2>&-", tmp_path).returncode == 2
    done = shell(f"{line} >&-", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 3, "the one message, with its three parts"


def test_a_user_with_a_name_needs_no_home_variable(tmp_path: Path) -> None:
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        pytest.skip("this user has no name")
    if not os.path.isabs(home):
        pytest.skip("this user has no home folder")
    done = python("-m", "experiments.sync", "--help", folder=tmp_path, variables=environment(without="HOME"))
    assert done.returncode == 0 and done.stderr == b"" and b"--rebuild" in done.stdout


@pytest.mark.parametrize("name", ["experiments.sync", pytest.param("analysis.build", marks=pytest.mark.slow)])
@pytest.mark.parametrize("home", ["", "relative/folder"])
def test_a_home_that_is_no_folder_is_one_message(home: str, name: str, tmp_path: Path) -> None:
    done = python("-m", name, "--help", folder=tmp_path, variables=environment(HOME=home))
    assert (done.returncode, done.stdout) == (2, b"")
    given, rule, remedy = done.stderr.decode().splitlines()
    assert given == f"error: HOME={home}"
    assert rule.startswith("  rule:   ") and f"user {os.getuid()}" in rule
    assert remedy.startswith("  remedy: ") and "HOME=/tmp" in remedy
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reader, which the test closes, and its writer."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def test_an_output_notes_why_it_cannot_be_written_and_then_drops(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    assert output.writable() and output.fileno() == writer and not output.isatty() and not output.readable()
    assert output.write(b"12345") == 5 and os.read(reader, 9) == b"12345" and output.failed is None
    os.close(reader)
    with pytest.raises(BrokenPipeError) as caught:
        output.write(b"6")
    assert output.failed is caught.value
    assert output.write(b"789") == 3 and output.write(memoryview(b"0")) == 1, "from then on it drops"


def test_what_a_main_function_returns_is_the_status() -> None:
    def ends(code: str | int | None) -> int:
        raise SystemExit(code)

    for status in (0, 2, 130):
        assert printing(partial(int, status)) == status
    for code, status in ((None, 0), (0, 0), (2, 2), ("why", 1)):
        assert printing(partial(ends, code)) == status


def test_an_error_that_is_not_of_the_output_is_not_hidden() -> None:
    def fails() -> int:
        raise PermissionError("a file, not the output")

    with pytest.raises(PermissionError, match="not the output"):
        printing(fails)


def test_streams_of_tests_and_notebooks_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> int:
        print(FOREIGN)
        return 0

    output, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    assert streams._take_over() == [] and sys.stdout is output and sys.stderr is errors
    assert printing(main) == 0 and output.getvalue() == FOREIGN + "\n"
