"""Ask a model with an adapter, and the same model without it; the answers stand side by side.

    python -m experiments.chat 0123 --prompt "12+7="      a run, by key or folder, and one prompt
    python -m experiments.chat 0123 --step best           a prompt in each line that is typed, or read from a pipe
    python -m experiments.chat v.safetensors model=<name> an adapter file, or a PEFT folder of ours

Answers are greedy. A prompt is what the model continues, or the user's message where the run's task is a conversation;
no instruction is added. Settings are given as for `experiments.evaluate`, such as rollout.max_new_tokens=256. On a
terminal the answers are two columns, elsewhere lines.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.adapters import add_step, find_adapters, split_words
from experiments.command import add_outputs_dir, leave, run_command
from experiments.display import counted, open_progress, visible
from experiments.naming import listed
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import UsageError

SETTING = re.compile(r"[+~]*[A-Za-z_][\w.@/]*=")
"""How a setting begins."""

if TYPE_CHECKING:
    from tinylora.train.answering import Said
    from tinylora.train.pack import Pack


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer the prompts; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="adapter|setting=value", help="one adapter, and settings")
    parser.add_argument("--prompt", help="what to ask; without it prompts are read, one a line")
    add_step(parser)
    add_outputs_dir(parser)
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: _chat(options), interrupted="")


def _chat(options: argparse.Namespace) -> int:
    names, settings = split_words(options.words)
    _require_no_prompt(names[1:], settings, options)
    adapters = find_adapters(names, options.step, options.outputs_dir, settings)
    if len(adapters) != 1:
        raise UsageError(
            f"{' '.join(names) or 'no adapter'}: {counted(len(adapters), 'adapter')}",
            "one adapter is asked at a time",
            f"give one of: {listed(used.name for used in adapters)}" if adapters else "give a run or a file",
        )
    from tinylora.train.used import open_used

    with open_progress() as progress:
        pack = open_used(adapters, progress)
    title = adapters[0].name + ("" if adapters[0].step is None else f", step {adapters[0].step}")
    if options.prompt is not None:
        _ask(pack, title, options.prompt)
        return 0
    refused = 0
    for prompt in _prompts():
        try:
            _ask(pack, title, prompt)
        except UsageError as error:  # the next one may be better
            print(f"error: {error}", file=sys.stderr)
            refused = error.exit_status
    return refused


def _require_no_prompt(others: Sequence[str], settings: Sequence[str], options: argparse.Namespace) -> None:
    """Raise UsageError for a word that is no setting and names no adapter: most likely it is meant as the prompt."""
    meant = [word for word in settings if not SETTING.match(word)]
    for word in others:
        try:
            find_adapters([word], options.step, options.outputs_dir, ())
        except UsageError:
            meant.append(word)
    if meant:
        rule = "the words are one adapter and settings; what it is asked is given by --prompt, or typed"
        raise UsageError(meant[0], rule, f"give --prompt {shlex.quote(' '.join(meant))}")


def _prompts() -> Iterator[str]:
    """The lines of standard input that are not empty, asked for where a person types them."""
    typed = sys.stdin.isatty()
    while True:
        if typed:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.rstrip("\r\n")


def _ask(pack: Pack, title: str, prompt: str) -> None:
    """Print what both say to a prompt."""
    from tinylora.train.answering import answer

    (base,), (adapted,) = answer(pack, [prompt], untrained=True), answer(pack, [prompt])
    console = Console()
    if not console.is_terminal:
        print(
            "\n".join([f"prompt:  {visible(prompt)}", *_lines("base", base), *_lines("adapter", adapted)]), flush=True
        )
        return
    table = Table(box=box.ASCII if console.options.ascii_only else box.SIMPLE_HEAD, expand=True)
    for name in (pack.engine.name, title):
        table.add_column(Text(name), ratio=1, overflow="fold")
    table.add_row(*(Text("\n".join([*map(visible, said.text.split("\n")), _about(said)])) for said in (base, adapted)))
    console.print(table)


def _lines(name: str, said: Said) -> list[str]:
    first, *others = said.text.split("\n")
    return [
        f"{name + ':':<8} {visible(first)}",
        *(f"{'':9}{visible(line)}" for line in others),
        f"{'':9}{_about(said)}",
    ]


def _about(said: Said) -> str:
    return f"({counted(said.tokens, 'token')}{', cut' if said.cut else ''})"


if __name__ == "__main__":
    leave(main)
