"""What `python -m experiments.run --help` prints. Hydra reads all files of `conf` twice to list the groups."""

from __future__ import annotations

from string import Template

from experiments.compose import CONF

TEXT = "help.txt"
FLAGS = ("-h", "--help")


def help_text() -> str:
    """The text of `conf/help.txt`, with the groups that the folders of `conf` are and the options in them."""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    groups = [(folder.name, sorted(file.stem for file in folder.glob("*.yaml"))) for folder in folders]
    listed = "\n".join(f"{name}: {', '.join(options)}" for name, options in groups if options)
    return Template((CONF / TEXT).read_text(encoding="utf-8")).safe_substitute(GROUPS=listed)
