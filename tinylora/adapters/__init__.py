"""What is trained: the values of many lanes on one frozen model.

`tinylora` is the method of the paper, on the frozen truncated SVD of every weight (`basis`, kept by `basis_cache`) with
values shared by groups of modules (`tying`); `lora` and `full` are its baselines. All of them are `Adapters` (`base`),
the one interface that the loops know; `mixing` is how rows of different lanes are computed in one batch, `noise` draws
from named streams. `adapter_file` is the file of trained values, `attach` the library for other training loops and
tools.

May import settings and models. Read `tinylora` first, then `base`.
"""
