"""Who asks for which edit in which round."""
