"""What is kept of a run: its folder, its mirror in MLflow, archives of many; and progress and stopping on the way."""
