"""TinyLoRA: teach a language model with a handful of trained parameters (arXiv 2602.04118).

The rooms, from the ground up; each may import those before it, and its `__init__` says what it is for:

    settings    what a run is asked to do          adapters   what is trained: lanes on one frozen model
    models      base models, frozen                engine     how a pack is computed: rollouts and gradients
    answers     what a completion answers          train      how a pack is trained, and what is written of it
    tasks       problems, prompts, scores
    records     what is kept of a run

Shape letters, which mean the same in every docstring and comment:

    L lanes           P problems per lane and step     G samples per problem       N prompts of all lanes (L * P)
    B completions (N * G)       b those of one batch   A rows of a batch           T tokens of a row or completion
    S columns of the cache      V vocabulary           M adapted modules           K groups of modules that share a v
    r rank of the basis         u values per group     d_in, d_out sides of a weight
"""

__version__ = "0.1.0"
