"""The report as files: a page, tables, figures and the numbers behind them, all made in memory.

`report` puts everything together. `entries` shows the items of the paper, `sections` all other runs, by model and task,
with `sweep_figures` and `tables`; `notes` says what a reader must know about the numbers; `findings` is the first
screen; `formats` makes the bytes; `page.html.j2` is the page. `study_page` copies the study's results into its
document. The room may import all others of `analysis` but not `build`. A newcomer reads `report` first.
"""
