"""How Hydra starts the points of a sweep: all composed and checked first, then trained in packs."""
