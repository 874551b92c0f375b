"""Make a miniature base model anew: `experiments.miniatures` says what it is.

    python -m experiments.pretrain --family qwen2      # makes tinylora/models/miniatures/miniature-qwen2

The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse

from experiments.command import leave, run_command
from tinylora.models.find import MINIATURES
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.paths import absolute

FAMILIES = ("llama", "qwen2")


def main() -> int:
    """Parse the command line and pretrain one family; the exit status."""
    parser = CommandParser(prog="python -m experiments.pretrain", description="Make a miniature base model anew.")
    parser.add_argument("--family", choices=FAMILIES, required=True)
    parser.add_argument("--rows", type=int, default=128, help="problems per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=250, help="steps between saved states and measurements")
    parser.add_argument("--out", help="model folder (default: the shipped one)")
    args = parser.parse_args()
    return run_command(lambda: _pretrain(args))


def _pretrain(args: argparse.Namespace) -> None:
    from experiments.miniatures import pretrain  # it needs PyTorch

    args.out = absolute(args.out or MINIATURES / f"miniature-{args.family}", "--out")
    pretrain(args)


if __name__ == "__main__":
    leave(main)
