"""Sweeps that run as jobs: on SLURM, or as processes in the background of this machine.

`submit` sends a sweep: it writes the sweep's folder (`ledger`), copies the sources (`snapshot`) and asks for a job per
pack (`settings` -> `request`). `job` is what runs in each of them, and requeues itself; it trains a pack (`one_pack`),
or several in processes of their own (`side_by_side`). `requeue.sh.j2` requeues a job whose Python was killed, `at_end`
runs a command of the user's after all. `states` and `watch` say how they stand, `states` how to end them, too; `slurm`
is what we ask of SLURM. It imports `experiments.sweep` and what is below, and PyTorch in `one_pack` alone, while that
runs. A newcomer reads `submit`, then `job`.
"""
