"""What a person sees in a terminal: progress, the table at the end, and streams that bear any locale."""
