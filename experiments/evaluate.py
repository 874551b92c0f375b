"""Evaluate adapters after their training, all that share a model in one batch, and write down what they are worth.

    python -m experiments.evaluate outputs eval.suites=[math500,aime24]      every finished run of an outputs_dir
    python -m experiments.evaluate 0123 4567 --step best eval.suites=[test]  runs by key, at their best step
    python -m experiments.evaluate v.safetensors model=miniature-qwen2       an adapter file, or a PEFT folder of ours

Runs are named by folder or key, sweeps by outputs_dir, folder or id. Without eval.suites all sets of the run are
evaluated; with it those that it names, of which `validation` and `test` are the task's own. Of a run's other settings
task.*, rollout.*, pack.*, where the model lies, and the sizes of eval may be changed. An adapter file says nothing of
model and task: these are settings, with the defaults of `experiments.run`.

Results are lines of evaluations.jsonl in the folder of the run or of the file. What is there already is not evaluated
again, so the same command goes on where it was ended. MLflow gets those of runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.adapters import add_step, find_adapters, split_words
from experiments.command import add_outputs_dir, leave, run_command
from experiments.display import counted, open_progress, plain_table
from experiments.planning.packing import form_packs
from tinylora.records.folder import LOCK, RunFolder, read_config
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import FailureError, UsageError
from tinylora.settings.files import held

if TYPE_CHECKING:
    from tinylora.train.evaluated import Asked
    from tinylora.train.used import Used

SUITES = "eval.suites"
HEADINGS = ("adapter", "step", "set", "problems", "sampled", "greedy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate what was asked for, and print it; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="adapter|setting=value", help="adapters, and settings")
    add_step(parser)
    add_outputs_dir(parser)
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> int:
    names, settings = split_words(options.words)
    if not names:
        raise UsageError(" ".join(options.words), "adapters are evaluated, and none is named", "give a run or a file")
    adapters, suites = _suites_of(find_adapters(names, options.step, options.outputs_dir, settings), settings)
    from tinylora.train.evaluated import ask

    failures: list[str] = []
    with ExitStack() as locks:
        for folder in sorted({used.folder for used in adapters}):
            busy = FailureError(f"folder {folder}", "one process at a time writes there", "wait for the other to end")
            locks.enter_context(held(folder / LOCK, seconds=0, busy=busy))
        asked = ask(adapters, suites)
        missing = [each for each in asked if each.found() is None]
        for pack in _packs(missing):
            failures += _evaluate_pack(pack)
        _print(asked)
    print(_said(len(asked), len(missing)), file=sys.stderr)
    _mirror(adapters)
    for failure in failures:
        print(f"not evaluated: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _suites_of(adapters: Sequence[Used], settings: Sequence[str]) -> tuple[list[Used], list[str] | None]:
    """The adapters without the task's own sets among their further ones; the sets that were named (None: all)."""
    from tinylora.train.evaluated import OWN

    changed, named = [], None
    for used in adapters:
        config = used.config
        if any(word.startswith(f"{SUITES}=") for word in settings):
            named = list(config.eval.suites)
        further = [name for name in config.eval.suites if name not in OWN]
        changed.append(replace(used, config=replace(config, eval=replace(config.eval, suites=further))))
    return changed, named


def _packs(asked: Sequence[Asked]) -> list[list[Asked]]:
    """What is asked of the adapters of each pack."""
    of_config: dict[int, list[Asked]] = {}
    for each in asked:
        of_config.setdefault(id(each.used.config), []).append(each)
    configs = list({id(each.used.config): each.used.config for each in asked}.values())
    return [[each for config in pack for each in of_config[id(config)]] for pack in form_packs(configs)]


def _evaluate_pack(asked: Sequence[Asked]) -> list[str]:
    from tinylora.train.evaluated import evaluate_pack

    with open_progress() as progress:
        return evaluate_pack(asked, progress)


def _print(asked: Sequence[Asked]) -> None:
    rows: list[tuple[str, ...]] = [HEADINGS]
    for each in asked:
        line, step = each.found(), "-" if each.used.step is None else str(each.used.step)
        if line is not None:
            scores = [line.metrics[f"eval/{line.suite}/{way}_strict"] for way in ("sampled", "greedy")]
            problems = str(len(line.outcomes.greedy_strict))
            rows.append((each.used.name, step, line.suite, problems, *(f"{score:.3f}" for score in scores)))
    print("\n".join(plain_table(rows, numbers=3)))


def _said(asked: int, missing: int) -> str:
    if not missing:
        return f"all {counted(asked, 'evaluation')} were there already" if asked > 1 else "it was there already"
    return f"{counted(missing, 'evaluation')} made, {asked - missing} were there already"


def _mirror(adapters: Sequence[Used]) -> None:
    """Bring MLflow up to date with the runs among the adapters, where it is installed."""
    folders = [used.folder for used in adapters if used.step is not None]
    if not folders or importlib.util.find_spec("mlflow") is None:
        return
    from tinylora.records.mirror import Mirror

    groups: dict[tuple[str, str], list[RunFolder]] = {}
    for path in dict.fromkeys(folders):
        folder = RunFolder(read_config(path, path.parent))
        groups.setdefault((folder.config.tracking_uri, folder.config.tracking.experiment), []).append(folder)
    for group in groups.values():
        Mirror(group[0].config).push(group, final=True)


if __name__ == "__main__":
    leave(main)
