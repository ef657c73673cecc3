"""From edits to keys, residuals and targets; the key covariance."""
