"""What is kept of a run, and what is told of it while it trains.

The run folder is the record (`folder`, which has the names of all its files and finds folders on a disk). MLflow is a
mirror of run folders (`mirror`; `sqlite_store` makes its file), which `import_runs` fills later for runs that wrote
folders alone; `archive` puts many runs into one file. `progress` is what a pack tells whoever watches, `stopping` how
it is asked to end.

May import settings, and needs no PyTorch. Read `folder` first.
"""
