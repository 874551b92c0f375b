"""Base models, which stay frozen.

`find` says where a model lies (in the package, in a folder, on the Hugging Face hub with `hub`, in SmolLM2's package
with `smollm2`), `load` loads it, `maps` finds the linear maps in it that are adapted, `shapes` knows the sizes of
Llama-like models without loading them, `recompute` is gradient checkpointing. `miniatures/` are the shipped models.

May import settings. Read `load` first.
"""
