"""The paper's tables, figures and claims: what it published, and the same from our runs."""
