"""Commands that run experiments with `tinylora`, and what they are made of.

Each file at the top is a thin command: `run` (train), `plan` (what it would cost), `prepare` (what it needs, before
its jobs), `status`, `logs`, `cancel` (sweeps that run as jobs), `sync`, `records` (keep and share what was recorded),
`samples` (read what the models said), `evaluate` (adapters, after their training), `chat` (ask them), `export` (use
them elsewhere), `ui` (pages in a browser), `questions`, `pretrain` (make data and the miniature models). `__main__`
has them all by one name; `command` is what they share, `naming` and `adapters` how runs and adapters are named, `sweep`
trains the packs of a sweep, `search` finds rates, `miniatures` is how the miniature models are made, `display` is what
a person sees.

Imports go down only: commands -> jobs -> sweep -> planning -> compose -> display -> tinylora; nothing here is imported
by `tinylora` or `analysis`. A newcomer reads `run`, then `sweep`, then `compose.points`.
"""

import os

try:
    from tinylora.settings.interrupts import quiet_until_started

    quiet_until_started()
    from tinylora.settings.paths import end_without_surroundings

    end_without_surroundings()
    from tinylora.settings.extras import require_extra

    require_extra("sweep", ("hydra", "submitit", "mlflow", "rich"))

    # PyTorch's threads wait for each other in a loop. Beside another process on the same cores a run took more than
    # three times as long (LOG.md, 2026-11-27); to wait a shorter time cost nothing that could be measured. GNU's OpenMP
    # reads this as PyTorch is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
except KeyboardInterrupt:  # in this very moment
    raise SystemExit(130) from None
