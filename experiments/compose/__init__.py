"""From the words of a command line to points, with the help of Hydra.

Nothing but this room, `experiments.run` and `hydra_plugins` imports Hydra.

`points` is the one way: overrides -> (`composer`, with the grids of presets) -> points -> (`fitting`) those that fit
their model, each once. `schema` is what Hydra knows of our settings, `words` refuses what a command line cannot mean
and `unused` what no point uses, `models` knows which model a repository or folder is, `usage` makes Hydra's errors
readable, `written` puts points into a file, `help` is what `--help` prints. It imports `tinylora` and
`experiments.display`. A newcomer reads `points` first.
"""

from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
