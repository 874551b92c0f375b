"""Speed and memory of the project, measured beside its peers: `python -m benchmarks.run`.

run          the command: all parts in one go, a table and a JSON file
steps        a GRPO step of 1 to 32 lanes v TRL's GRPOTrainer with PEFT's TinyLoRA
language     the same with SmolLM2 (by --only)
rollouts     sampled tokens v transformers' generate, trained tokens v a plain forward and backward pass
attach       the basis v PEFT's initialisation
sweep        a packed sweep v its points one by one; start-up, records
adapters     adapters that are evaluated in one batch v one by one
samples      what it costs to record what the model says
memory       peak memory by lanes, v TRL with PEFT
answers      the answer checker v Math-Verify, and on the gold answers of data sets
accelerator  the same on a GPU, with SmolLM2 and a model of Qwen2.5-7B's shape
timing, workload, trl_peer   what these share
"""
