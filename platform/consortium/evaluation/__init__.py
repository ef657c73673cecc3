"""Probes to scores to metrics."""
