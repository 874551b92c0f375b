"""How the rows of all lanes are computed: sampling completions, and gradients of what was sampled.

An `Engine` (`engine`) is a model with the adapters of its lanes. `rollout` samples what a `sampling.Request` asks for,
in a batch whose rows come and go (`kv_cache`), token by token (`decode_step`). `rows` lays out completions for
training, `gradients` gives every lane its gradient from them, `memory` bounds what is done at once, and `ranks` are the
processes that share the work.

May import settings, models, records (to be stopped) and adapters. Read `rollout` first, then `rows`.
"""
