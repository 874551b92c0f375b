"""How a pack is trained: GRPO and SFT steps, evaluation, the loop that records every step, and the checks before."""
