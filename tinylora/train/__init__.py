"""How a pack is trained: GRPO and SFT steps, evaluation, the loop that records every step, and what is checked before."""
