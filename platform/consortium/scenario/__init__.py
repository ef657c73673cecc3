"""Scenario files: YAML to frozen, checked types."""
