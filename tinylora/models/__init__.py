"""Base models, which stay frozen.

`find` says where a model lies (in the package, in a folder, on the Hugging Face hub with `hub`, in SmolLM2's package
with `smollm2`), `file_digests` which one it is, `files` and `tokenizer` check what lies there, `templates` renders chat
templates, `form` says what is asked and what ends an answer, `load` loads it (and recomputes its blocks in training,
where that is asked for), `maps` finds the linear maps in it that are adapted, `shapes` knows the sizes of Llama-like
models without loading them. `miniatures/` are the shipped models.

May import settings. Read `load` first.
"""
