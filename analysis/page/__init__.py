"""The report as files: a page, tables, figures and the numbers behind them, all made in memory.

`report` puts everything together. `card` is what comes first for each model and task, with the interactive `charts` and
the `answers` of its runs; `entries` shows the items, with `tables` and with `details` folded away below each drawing;
`notes` says what a reader must know about the numbers; `findings` are the sentences on claims; `formats` makes the
bytes; `rendering` makes pages of the templates (`*.j2`); `terminal` is what the command prints. `study_page` copies the
study's results into its document. The room may import all others of `analysis` but not `build`. A newcomer reads
`report` first.
"""

import analysis.drawing  # noqa: F401 - it imports Matplotlib, as nothing may before it
