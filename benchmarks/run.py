"""All benchmarks in one command: `python -m benchmarks.run` (or `make bench`), under 15 minutes on two cores.

    --only steps,rollouts    some parts of: steps, rollouts, attach, memory, sweep, adapters, samples, startup, language
                             (without it: all but language, which takes long)
    --quick                  smaller and fewer measurements: to see that all runs, not to quote
    --out FILE               the numbers as JSON (default: reports/benchmarks.json); the table is printed

Peers are installed with `pip install -e .[bench]`. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType

from benchmarks import adapters, attach, language, memory, rollouts, samples, startup, steps, sweep
from benchmarks.timing import machine, markdown
from benchmarks.trl_peer import require_peers
from tinylora.settings.errors import TinyLoraError, UsageError
from tinylora.settings.paths import absolute
from tinylora.settings.streams import printing

PARTS: dict[str, ModuleType] = {
    "steps": steps,
    "rollouts": rollouts,
    "attach": attach,
    "memory": memory,
    "sweep": sweep,
    "adapters": adapters,
    "samples": samples,
    "startup": startup,
    "language": language,
}
APART = ("language",)  # takes long, and a model that `make smollm2` installs


def main() -> int:
    """Measure what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        default=",".join(name for name in PARTS if name not in APART),
        help="parts, with commas between (%(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="small measurements, not to quote")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks.json"), help="file for the numbers")
    given = parser.parse_args()
    try:
        names, out = _parts(given.only), absolute(given.out, "--out")
        require_peers()
        out.parent.mkdir(parents=True, exist_ok=True)
        _measure(names, given.quick, out)
    except TinyLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _parts(only: str) -> list[str]:
    names = only.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise UsageError(f"--only {only}", f"no part is called {unknown[0]!r}", f"give some of {','.join(PARTS)}")
    return names


def _measure(names: list[str], quick: bool, out: Path) -> None:
    """Measure part by part; what is there is written after each, so that an interrupted run keeps it."""
    warnings.filterwarnings("ignore")  # of the peers
    results: dict[str, object] = {"machine": machine(), "quick": quick}
    print(f"{results['machine']}{' (quick: not to quote)' if quick else ''}\n", flush=True)
    for number, name in enumerate(names, start=1):
        print(f"part {number} of {len(names)}: {name}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        results[name] = found = PARTS[name].measure(quick)
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(markdown(PARTS[name].HEADING, PARTS[name].rows(found)))
        print(f"\n({name}: {time.perf_counter() - started:.0f} s)\n", flush=True)


if __name__ == "__main__":
    sys.exit(printing(main))
