"""The only way to start a run, or a sweep of them.

    python -m experiments.run u=13
    python -m experiments.run -m u=1,13,120,1000 precision=fp32,bf16
    python -m experiments.run -m seed=0,1,2 hydra/launcher=slurm launcher.partition=gpu launcher.gpus=1
    python -m experiments.run -m u=1,13 lr=search seed=0,1

Hydra composes the points and hands them to `hydra_plugins/tinylora_pack_launcher`, which starts them here, or as jobs
for a launcher that submits them, whose settings are written launcher.<name>=<value>.

With `--minutes 9` it stops before a step once the minutes are over, with all states saved; the same command goes on.
A machine without Hydra, MLflow and network, such as an accelerator that is lent for minutes, trains points that were
composed elsewhere, and writes run folders alone (`python -m experiments.sync` later brings them into MLflow):

    python -m experiments.plan --write points.json -m +study=smollm2
    python -m experiments.run --points points.json --minutes 9

Exit status: 0 where every run finished, 1 where one did not, 2 for what cannot be run, 3 where the minutes were over
and there is more to do, 130 after Ctrl-C. Hydra is imported only where it is needed.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields

from experiments.command import leave, run_command, stop_after
from experiments.compose import CONF
from experiments.compose.help import FLAGS, help_text
from tinylora.engine.ranks import rank_of_process
from tinylora.records.folder import Unmirrored
from tinylora.records.stopping import StopRequest
from tinylora.settings.config import RunConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.paths import absolute

IN_THIS_PROCESS = ("pack", "basic")  # launchers
EXAMPLES = "give --minutes 9, or --points points.json, which `python -m experiments.plan --write points.json` writes"


def main() -> int:
    """Do what the command line asks; returns the exit status."""
    return run_command(lambda: _run(sys.argv[1:]))


def _run(words: Sequence[str]) -> None:
    if any(word in FLAGS for word in words):
        print(help_text())
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--minutes")
    parser.add_argument("--points")
    try:
        given, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageError(str(error), "--minutes takes a number, --points a file", EXAMPLES) from error
    minutes = None if given.minutes is None else _minutes(given.minutes, others)
    if given.points is not None:
        _run_written(given.points, others, stop_after(float("inf") if minutes is None else minutes))
    else:
        _run_composed(others, None if minutes is None else stop_after(minutes))


def _minutes(given: str, others: Sequence[str]) -> float:
    """The minutes after which to stop. Raises UsageError."""
    try:
        minutes = float(given)
    except ValueError:
        minutes = -1.0
    if not minutes >= 0:
        raise UsageError(f"--minutes {given}", "it is a number of minutes, at least 0", "give --minutes 9")
    launchers = [word.partition("=")[2] for word in others if word.startswith("hydra/launcher=")]
    if any(launcher not in IN_THIS_PROCESS for launcher in launchers):
        raise UsageError(
            f"--minutes {given} with hydra/launcher={launchers[-1]}",
            "it is for what is trained in this process; jobs have a time limit of their own, and are requeued after it",
            f"give launcher.minutes={max(1, math.ceil(minutes))} instead" if math.isfinite(minutes) else "leave it out",
        )
    return minutes


def _run_written(file: str, others: Sequence[str], stop: StopRequest) -> None:
    """Train the points of a file, after saying what they cost."""
    from experiments.compose.written import read_points
    from experiments.planning.costs import plan

    if others:
        raise UsageError(
            f"--points {file} {' '.join(others)}",
            "the points of a file are composed already",
            "leave the settings out, or give them to `python -m experiments.plan --write <file>`",
        )
    points = read_points(absolute(file, "--points"))
    if rank_of_process() == 0:
        print("\n".join(plan(points)), flush=True)
    _train(points, stop, Unmirrored())


def _run_composed(words: Sequence[str], stop: StopRequest | None) -> None:
    """Let Hydra do what the words ask for: start points, or show settings and help."""
    import hydra
    from omegaconf import DictConfig

    from experiments.compose import schema
    from experiments.compose.models import with_hub_model
    from experiments.compose.usage import check_flags, readable_errors
    from experiments.compose.words import check_words
    from experiments.jobs.settings import LaunchSettings

    def start(asked: DictConfig | Sequence[RunConfig]) -> None:
        """Hydra's task: all points of a sweep (our launchers), or one composed point (hydra/launcher=basic)."""
        points = asked if isinstance(asked, Sequence) else [schema.to_run_config(asked)]
        _train(points, stop)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints errors itself and exits
    sys.argv[1:], overrides = check_flags([_launcher_setting(word) for word in _with_launcher(words)])
    if sys.argv[1:] == ["-sc", "install=bash"]:
        print((CONF / "completion.bash").read_text(encoding="utf-8"))  # Hydra's own does not know `python -m`
        return
    schema.register()
    with readable_errors([field.name for field in fields(LaunchSettings)]):
        check_words(overrides)
        if any(word.startswith(("-c", "--cfg")) for word in sys.argv[1:]):  # shown by Hydra, which asks no sweeper
            sys.argv[1:] = sys.argv[1:] + with_hub_model(overrides)[len(overrides) :]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(start)()


def _train(points: Sequence[RunConfig], stop: StopRequest | None, mirror: Unmirrored | None = None) -> None:
    from experiments.sweep import require_finished, run_sweep

    require_finished(run_sweep(points, stop, mirror))


def _with_launcher(words: Sequence[str]) -> list[str]:
    """The words, with SLURM as the launcher where a profile of a cluster is given and no launcher."""
    profile = any(re.match(r"\+*cluster=", word) for word in words)
    chosen = any(word.startswith("hydra/launcher=") for word in words)
    return [*words, "hydra/launcher=slurm"] if profile and not chosen else list(words)


def _launcher_setting(word: str) -> str:
    """`launcher.gpus=1` as Hydra calls it; `sbatch` and `environment` are mappings whose names are the user's."""
    mapping = re.sub(r"^\+*launcher\.(sbatch|environment)", r"++hydra.launcher.\1", word)
    return re.sub(r"^\+*launcher\.", "hydra.launcher.", mapping)


if __name__ == "__main__":
    leave(main)
