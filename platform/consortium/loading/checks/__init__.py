"""Rules that hold between keys of a scenario: one file a feature."""
