"""TinyLoRA: teach a language model with a handful of trained parameters (arXiv 2602.04118).

Shape letters, used in every docstring and comment of the package:

    L lanes      P problems (prompts) per lane and step      G samples per problem      B rows (L * P * G)
    T tokens     M adapted modules     K tied groups     r rank of the basis     u trained values per group
"""

__version__ = "0.1.0"
