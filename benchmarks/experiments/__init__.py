"""What justifies defaults: whole runs under several settings, compared by their metrics."""
