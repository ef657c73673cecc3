"""A Ray cluster on this machine that grows and shrinks. Uses private modules of Ray."""
