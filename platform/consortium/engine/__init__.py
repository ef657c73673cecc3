"""The round, as the serial run and the Ray runtime use it; the serial run."""
