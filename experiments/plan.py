"""What a sweep would cost, before anything is trained or downloaded.

    python -m experiments.plan -m +paper=table2 model=qwen2.5-7b-instruct
    python -m experiments.plan --sampled-per-s 20000 --trained-per-s 15000 u=1,13 model=qwen2.5-3b-instruct lr=1e-4

The same overrides as for `experiments.run`. Points, packs, trained values and bytes, tokens, memory and hours; what has
ended in `outputs_dir` is not counted again. Speeds are those given, or measured in finished runs of the same model
there, or follow from the operations and --tflops.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from experiments.compose import schema
from experiments.compose.composer import Composer
from experiments.compose.fitting import fitting
from experiments.compose.usage import translate
from experiments.planning.costs import Assumptions, plan
from experiments.sweep import distinct
from tinylora.settings.config import RunConfig

CONF = Path(__file__).resolve().parent.parent / "conf"


def main() -> int:
    """Print the plan of the command line's sweep; returns the exit status."""
    assumptions, overrides = _arguments(sys.argv[1:])
    try:
        points, notes = compose(overrides)
        for line in plan(points, assumptions):
            print(line)
        for note in notes:
            print(f"note: {note}")
    except Exception as error:
        known = translate(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        return known.exit_status
    return 0


def _arguments(words: Sequence[str]) -> tuple[Assumptions, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--sampled-per-s", type=float, help="tokens per second in rollouts, all lanes together")
    parser.add_argument("--trained-per-s", type=float, help="tokens per second in training, all lanes together")
    parser.add_argument("--response-tokens", type=int, help="mean length of a response")
    parser.add_argument("--tflops", type=float, help="teraflops per second that the device keeps up")
    parser.add_argument("--device-gib", type=float, help="memory of the device")
    parser.add_argument("-m", "--multirun", action="store_true", help="no difference: every plan is of a sweep")
    parser.add_argument("overrides", nargs="*", help="settings, as for experiments.run")
    given = parser.parse_args(words)
    for name in ("sampled_per_s", "trained_per_s", "response_tokens", "tflops", "device_gib"):
        if getattr(given, name) is not None and not getattr(given, name) > 0:
            parser.error(
                f"--{name.replace('_', '-')} {getattr(given, name)}: it must be above 0; leave it out or raise it"
            )
    chosen = Assumptions(
        given.sampled_per_s, given.trained_per_s, given.response_tokens, given.tflops, given.device_gib
    )
    return chosen, given.overrides


def compose(overrides: Sequence[str]) -> tuple[list[RunConfig], list[str]]:
    """The distinct points of a sweep that fit their models, and what is to be said of the others."""
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        composed = [composer.point(job) for job in composer.jobs(overrides)]
    kept, notes = fitting(composed)
    points = distinct(kept)
    if len(points) < len(kept):
        notes.append(f"{len(kept) - len(points)} points repeat another one and run once")
    return points, notes


if __name__ == "__main__":
    sys.exit(main())
