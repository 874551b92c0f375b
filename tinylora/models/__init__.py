"""Base models: where they lie, how they are loaded frozen, their sizes, and which linear maps in them are adapted."""
