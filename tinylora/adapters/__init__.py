"""What is trained: TinyLoRA and its baselines as lanes on one frozen model, and the files that trained values go to."""
