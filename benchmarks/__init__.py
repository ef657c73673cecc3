"""What measures speed: the same work in our way and in the naive way, interleaved in one process."""
