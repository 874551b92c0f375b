"""Words of a command that its parser does not understand: three parts, and what was probably meant."""

from __future__ import annotations

import pytest

from tinylora.settings.command_parser import CommandParser


@pytest.mark.parametrize(
    ("words", "given", "remedy"),
    [
        (["x", "--no-borwser"], "--no-borwser", "give --no-browser"),
        (["x", "--kind", "gredy"], "gredy", "give greedy"),
        (["x", "--kind", "nothing like it"], "nothing like it", "--help"),
        ([], "required: word", "--help"),
        (["x", "--kind"], "expected one argument", "--help"),
    ],
)
def test_it_says_what_was_meant(words: list[str], given: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="python -m some.command")
    parser.add_argument("word")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--kind", choices=("greedy", "sample"))
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: ") and given in said
    assert "  rule:   " in said and remedy in said[said.index("  remedy: ") :]
