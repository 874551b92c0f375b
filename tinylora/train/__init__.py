"""How a pack is trained.

A `Pack` (`pack`) is an engine with a task, a tokenizer and lanes. `loop` trains it to its end by the steps of `grpo` or
`sft` (`losses`), with `evaluate` before and after; `recorder` writes what happens, `state` is what a lane continues
from, `provenance` what it was made with. `preflight` is what is checked before anything starts.

May import all other rooms. Read `grpo` first: it is the paper's algorithm on a screen.
"""
