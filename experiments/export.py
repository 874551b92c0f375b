"""Write the adapter of a run at one of its steps, for use elsewhere: as a file of ours, for PEFT and vLLM, or merged.

    python -m experiments.export 0123 v.safetensors --step best   a file that the library loads (docs/library.md)
    python -m experiments.export 0123 peft --form peft            a LoRA folder of PEFT
    python -m experiments.export 0123 merged --form merged        a model folder, with its tokenizer

`--step` is last (default), best (by validation), or the number of an evaluation. PEFT folders and merged models are
made of TinyLoRA and LoRA-XS. What lies at the target already is refused.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.adapters import add_step, find_adapters
from experiments.command import add_outputs_dir, leave, run_command
from experiments.display import open_progress
from experiments.naming import listed
from tinylora.settings.command_parser import CommandParser
from tinylora.settings.errors import FailureError, require
from tinylora.settings.paths import absolute

if TYPE_CHECKING:
    from tinylora.train.used import Used

FORMS = ADAPTER, PEFT, MERGED = "adapter", "peft", "merged"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what was asked for, and say where; the exit status."""
    parser = CommandParser(
        prog="python -m experiments.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder or key of a run")
    parser.add_argument("target", help="the file, or folder, to be written")
    parser.add_argument("--form", choices=FORMS, default=ADAPTER, help="%(choices)s (default: %(default)s)")
    add_step(parser)
    add_outputs_dir(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _export(options), interrupted="")


def _export(options: argparse.Namespace) -> None:
    target = absolute(options.target, "target")
    require(not target.exists(), f"target {target}", "nothing is written over", "give another name, or move it away")
    adapters = find_adapters([options.run], options.step, options.outputs_dir, ())
    names, step = listed(used.name for used in adapters), adapters[0].step
    require(len(adapters) == 1, f"{options.run}: several runs", "one is written at a time", f"give one of: {names}")
    kind = adapters[0].config.adapter.name
    require(
        options.form == ADAPTER or kind.has_basis,
        f"--form {options.form} of adapter={kind.value}",
        "PEFT folders and merged models are made of TinyLoRA and LoRA-XS",
        f"give --form {ADAPTER}",
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(adapters[0], target, options.form)
    except OSError as error:
        raise FailureError(
            f"{target}: {error.strerror}", "the adapter is written there", "give a place that has room"
        ) from error
    print(f"{names}, step {step}: {target}")


def _write(used: Used, target: Path, form: str) -> None:
    from tinylora.adapters.adapter_file import save_adapter
    from tinylora.adapters.attach import load, save_merged, save_peft
    from tinylora.models.load import load as load_model
    from tinylora.train.used import open_used

    with open_progress() as progress, tempfile.TemporaryDirectory() as made:
        pack = open_used([used], progress)
        file = target if form == ADAPTER else Path(made) / "adapter.safetensors"
        origin = {"model_digest": pack.model_digest, "tokenizer_digest": pack.tokenizer_digest}
        save_adapter(file, pack.engine.adapters, 0, origin)
        if form == ADAPTER:
            return
        model, tokenizer = load_model(used.config.model)  # the pack has moved the weights of its own
        adapter = load(model, file)
        if form == PEFT:
            save_peft(model, adapter, target)
        else:
            save_merged(model, adapter, target)
            tokenizer.save_pretrained(target)


if __name__ == "__main__":
    leave(main)
