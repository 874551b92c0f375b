"""All commands by one name: `tinylora <command> ...`, or `python -m experiments <command> ...`.

Each is a module that can be called by itself; this hands over to it, in the same process.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "run": ("experiments.run", "train a run, or a sweep of them with -m"),
    "plan": ("experiments.plan", "what a sweep would cost, without training it"),
    "prepare": ("experiments.prepare", "fetch and compute what a sweep needs, before its jobs"),
    "report": ("analysis.build", "tables, figures and answers of what has been run"),
    "samples": ("experiments.samples", "what the models of runs say"),
    "evaluate": ("experiments.evaluate", "evaluate adapters after their training"),
    "chat": ("experiments.chat", "ask a model with an adapter and without it"),
    "export": ("experiments.export", "write the adapter of a run for use elsewhere"),
    "status": ("experiments.status", "how submitted sweeps stand"),
    "logs": ("experiments.logs", "what the jobs of a sweep have written"),
    "cancel": ("experiments.cancel", "stop the jobs of a sweep"),
    "sync": ("experiments.sync", "write run folders into MLflow"),
    "records": ("experiments.records", "keep and share what was recorded"),
    "ui": ("experiments.ui", "the report and MLflow's pages in a browser"),
    "questions": ("experiments.questions", "make a question set, or find one that can teach a model"),
    "pretrain": ("experiments.pretrain", "make the miniature models anew"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand over to a command, which ends the process; the exit status where there is none of this name."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in COMMANDS:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", COMMANDS[words[0]][0], *words[1:]])
    asked = not words or words[0] in ("-h", "--help")
    out = sys.stdout if asked else sys.stderr
    if not asked:
        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        meant = f"give {near[0]}; " if near else ""
        print(f"error: {words[0]}: there is no such command\n  rule:   it is one of those below", file=out)
        print(f"  remedy: {meant}tinylora <command> --help says more of each\n", file=out)
    print("tinylora <command> ...\n", file=out)
    for name, (module, what) in COMMANDS.items():
        print(f"  {name:10} {what} (python -m {module})", file=out)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
