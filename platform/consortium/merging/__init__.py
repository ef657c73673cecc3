"""One merge method a file, and their registry."""
