"""Known facts: edits that an arm's model holds already, which their parties do not send."""
