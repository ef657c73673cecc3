"""What is done if something breaks: which failures are tried again, and which end a run."""
