"""How a pack is computed: rollouts, rows of completions, gradients, within the memory that there is."""
