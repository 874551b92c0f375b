"""How a pack is trained.

A `Pack` (`pack`) is an engine with a task, a tokenizer and lanes. `loop` trains it to its end by the steps of `grpo`
or `sft` (advantages and losses in `losses`, completions that are rewarded in `sampled`), or looks for the best v by
those of `random_search`, with `evaluate` before and after, from wherever the saved states of its lanes (`state`) stand.
`samples` says which completions are kept to be read, `kept` what of v. `recorder` writes what happens and what a run
was made with. `preflight` is what is checked before: what is asked for (`inputs`), and whether runs that have ended
were made with the same files (`origin`). `used` opens adapters that are there, `evaluated` evaluates and `answering`
asks them.

May import all other rooms. Read `grpo` first: it is the paper's algorithm on a screen.
"""
