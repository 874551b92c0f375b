"""What a run is asked to do.

`config` holds RunConfig, one point of a sweep, and `groups` its parts; every setting is declared with its role, from
which `identity` takes what makes two runs the same run. `rules` are checked when settings are made, `choices` are
settings that are one of a few words, `recorded` reads settings back from records. Beside them stands what all rooms
need and that needs nothing: `errors` in three parts, `files` that are whole at any moment, `seeds` of random streams.

Imports nothing of the other rooms, and no PyTorch. Read `config` first, then `identity`.
"""
