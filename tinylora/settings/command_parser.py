"""What all commands read their words with: its errors have three parts, as all others have."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from typing import NoReturn

from tinylora.settings.errors import UsageError

CHOICES = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


class CommandParser(argparse.ArgumentParser):
    """A parser that ends with exit status 2 and three parts where the words of a command are not understood."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and end the process."""
        rule = "a command takes the options and words that its --help lists"
        error = UsageError(message, rule, self._meant(message) or f"see `{self.prog} --help`")
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(UsageError.exit_status)

    def _meant(self, message: str) -> str | None:
        """The option or the choice that is most like a wrong one; None where there is none like it."""
        if found := CHOICES.search(message):
            wrong, known = found[1], re.findall(r"[^', ]+", found[2])
        else:
            wrong, known = next((word for word in message.split() if word.startswith("--")), ""), []
            if wrong and "unrecognized" in message:
                known = list(self._option_string_actions)
        near = difflib.get_close_matches(wrong, known, 1, cutoff=0.5)
        return f"give {near[0]}; see `{self.prog} --help`" if near else None
