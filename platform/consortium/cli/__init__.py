"""The command line, and what a person sees in a terminal: progress and the table at the end."""
