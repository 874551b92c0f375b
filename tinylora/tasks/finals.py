r"""Where the final answer of a text stands: in the last box, behind the last `####`, or in its last line."""

from __future__ import annotations

import re

from tinylora.choices import Template

TAIL = 4000  # characters of a completion that are searched: a final answer stands at the end


def asked_for(completion: str, template: Template | None) -> str | None:
    """What stands behind the last `####` or in the last box, as the template has it; either of them without one."""
    tail = completion[-TAIL:]
    _, mark, after = tail.rpartition("####")
    marked = after.strip().partition("\n")[0].strip() or None if mark else None
    if template is Template.hash:
        return marked
    return last_boxed(tail) or (None if template is Template.boxed else marked)


def final_texts(completion: str, template: Template) -> tuple[str | None, str | None]:
    """The final answer in the form that the template asks for, and in any form; None where there is none."""
    lines = completion.strip().splitlines()
    found = asked_for(completion, None) or (lines[-1].strip() if lines else None)
    if template is Template.plain:
        return completion.strip() or None, found
    strict = asked_for(completion, template)
    return strict, strict or found


def last_boxed(text: str) -> str | None:
    r"""The content of the last whole \boxed{...}, braces inside it matched; or the word after a `\boxed ` without."""
    start = text.rfind("\\boxed")
    while start >= 0:
        rest = text[start + len("\\boxed") :]
        if rest.startswith("{"):
            depth = 0
            for place, character in enumerate(rest):
                depth += (character == "{") - (character == "}")
                if depth == 0:
                    return rest[1:place]
        elif rest[:1].isspace() and (word := re.match(r"\s+([^\s$.,]+)", rest)):
            return word[1]
        start = text.rfind("\\boxed", 0, start)
    return None
