"""Llama's family: blocks and their derivatives written out, for targets."""
