"""The metrics of unlearning."""
