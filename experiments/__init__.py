"""Commands that run experiments: `run` (training sweeps) and `pretrain` (the miniature models)."""
