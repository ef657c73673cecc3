"""From edits to keys, residuals and targets; the prior."""
