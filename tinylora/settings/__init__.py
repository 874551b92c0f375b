"""What a run is asked to do.

`config` holds RunConfig, one point of a sweep; `groups` are its parts, `algorithms` one of them. Every setting is
declared with its role, from which `identity` takes what makes two runs the same run. `choices` are settings that are
one of a few words, `rates` what `lr=auto` stands for, `rules` what values of any setting must be, `uses` when a setting
has a meaning; `recorded` reads settings back from records. Beside them stands what all rooms need: `errors` in three
parts and `require`, which raises them, `command_parser` for the words of a command, `files` that are whole at any
moment, `tensor_files` that notice a flipped bit, `leftovers` of killed processes, `given_files` that are read with
limits, `interrupts` in a command's first moment, `seeds` of random streams.

Imports nothing of the other rooms, and no PyTorch. Read `config` first, then `identity`.
"""
