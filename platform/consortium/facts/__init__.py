"""Edits and their probes: one loader for each data format, and the built-in facts."""
