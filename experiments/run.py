"""The only way to start a run, or a sweep of them.

    python -m experiments.run u=13
    python -m experiments.run -m u=1,13,120,1000 precision=fp32,bf16
    python -m experiments.run -m seed=0,1,2 hydra/launcher=slurm launcher.partition=gpu launcher.gpus=1

Hydra composes the points and hands them to `hydra_plugins/tinylora_pack_launcher`, which calls `experiments.sweep`, or
`experiments.jobs.submit` for a launcher that submits jobs, whose settings are written launcher.<name>=<value>.
Exit status: 0 where every run finished, 1 where one did not, 2 for what cannot be run, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from experiments.compose import schema
from experiments.compose.usage import check_flags, translate
from tinylora.engine.ranks import rank_of_process, world_size
from tinylora.settings.errors import TinyLoraError

CONF = Path(__file__).resolve().parent.parent / "conf"
INTERRUPTED = 130


def run_point(composed: DictConfig) -> None:
    """One point, for launchers that start them one by one (hydra/launcher=basic)."""
    config = schema.to_run_config(composed)

    from experiments.sweep import incomplete, run_sweep

    error = incomplete(run_sweep([config]))
    if error is not None:
        raise error


def main() -> int:
    """Do what the command line asks; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C: recorded, resumable
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints errors itself and exits
    sys.argv[1:] = [_launcher_setting(word) for word in sys.argv[1:]]
    try:
        check_flags(sys.argv[1:])
        if sys.argv[1:] == ["-sc", "install=bash"]:
            print((CONF / "completion.bash").read_text())  # Hydra's own does not know `python -m`
            return 0
        schema.register()
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(run_point)()
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        known = translate(error)
        if known is None:
            raise
        return _report(known)
    return 0


def _launcher_setting(word: str) -> str:
    """`launcher.gpus=1` as Hydra calls it; `launcher.sbatch` is a mapping whose names are the user's."""
    return re.sub(
        r"^\+*launcher\.", "hydra.launcher.", re.sub(r"^\+*launcher\.sbatch", "++hydra.launcher.sbatch", word)
    )


def _report(error: TinyLoraError) -> int:
    who = f"rank {rank_of_process()}: " if world_size() > 1 else ""
    print(f"{who}error: {error}", file=sys.stderr)
    return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
