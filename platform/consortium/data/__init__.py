"""Edits and their probes, and who asks for which edit in which round."""
