"""Sweeps that run as jobs: on SLURM, or as processes in the background."""
