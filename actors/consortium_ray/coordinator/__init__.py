"""The coordinator: its process, its state machine, and the calls that it hands out."""
