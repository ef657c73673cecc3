"""The metrics of conflicts."""
