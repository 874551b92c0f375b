"""What stands in the Markdown pages: links, named paths, and blocks of code with what a test shall do with them.

A comment in the line above a block says how it is tested. Without one, a shell block is run where it only prints or
plans, and a command that trains is planned; the slow test then runs it.

    <!-- test: with steps=2 -->     the slow test adds these settings to each command that trains
    <!-- test: slow -->             run in the slow test alone
    <!-- test: plan (why) -->       commands that train are planned, never run
    <!-- test: needs package -->    run where the package is installed
    <!-- test: skip (why) -->       not run; its commands must exist all the same
    <!-- test: file <path> -->      a recipe: the block is a new file of a copy of the repository
    <!-- test: copy -->             a recipe: run in that copy, by the slow test

A block of the language `diff` is a recipe's change of a file.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FOLDERS = ("analysis", "benchmarks", "conf", "docs", "experiments", "hydra_plugins", "tests", "tinylora")

_BLOCK = re.compile(r"(?:^<!-- test: (?P<mark>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\(([^()\s]+)\)|<img\s[^>]*?src=\"([^\"]+)\"")
_PATH = re.compile(rf"(?<![\w./<-])((?:{'|'.join(FOLDERS)})/[\w./*-]*[\w/])(?::([A-Za-z_][\w.]*))?")


@dataclass(frozen=True)
class Block:
    """A block of code."""

    page: Path
    section: str
    """The heading above it."""
    language: str
    text: str
    mark: str
    """`slow`, `plan`, `skip`, ..., or "" where nothing is said."""
    argument: str
    """What follows the mark."""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page, in order."""
    content = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(content):
        headings = re.findall(r"^#+ (.*)$", _without_blocks(content[: match.start()]), re.M)
        mark, _, argument = (match["mark"] or "").partition(" ")
        found.append(Block(page, headings[-1], match["language"], match["text"], mark, argument))
    return found


def links(page: Path) -> list[str]:
    """The targets of all links and pictures."""
    content = _without_blocks(page.read_text(encoding="utf-8"))
    return [target or source for target, source in _LINK.findall(content)]


def anchors(page: Path) -> set[str]:
    """What a link into the page may end in: its headings as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", _without_blocks(page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page: Path) -> list[tuple[str, str]]:
    """Each path of the repository that a page names, and what it names in that file: `tinylora/x.py:Class.method`."""
    return [(path, inside) for path, inside in _PATH.findall(page.read_text(encoding="utf-8")) if "*" not in path]


def _without_blocks(content: str) -> str:
    return _BLOCK.sub("", content)
