"""What a run is asked to do: its settings, the rules they keep, its identity; and errors, files, seeds for all others."""
