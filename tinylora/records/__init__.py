"""What is kept of a run, and what is told of it while it trains.

The run folder is the record (`folder`). `reading` finds folders on a disk and reads their settings, `measured` their
metrics and summaries; `items` says which problems were answered rightly, `samples` holds some of what the model said,
`kept` v at every evaluation (`choice` says which of them is meant), `evaluations` what adapters were found to be worth
later.
`damage` says whether a folder can be trusted, and `digests` what runs that are put together must agree in. MLflow is a
mirror of run folders (`mirror`; `later` opens it when it is needed, `mirrored` says how far it is, `sqlite_store` makes
its file), which `import_runs` fills later for runs that wrote folders alone. `archive` puts many runs into one file
(`archive_stream` reads it within limits, `archive_check` looks at each run). `progress` is what a pack tells whoever
watches, `stopping` how it is asked to end, `source` the commit of this code.

May import settings, and needs no PyTorch. Read `folder` first.
"""
