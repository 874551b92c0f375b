"""TinyLoRA inside other training loops, each a file to copy from: `python -m experiments.examples.trl_grpo`."""
