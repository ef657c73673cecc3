"""What a worker computes for its parties."""
