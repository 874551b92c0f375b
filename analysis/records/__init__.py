"""MLflow stores as data frames."""
