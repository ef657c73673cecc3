"""From a scenario file to a checked scenario, and what else is looked at before a run begins."""
