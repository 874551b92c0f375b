"""What a run is asked to do: settings, their rules, identity; and the errors, files and seeds that all rooms use."""
