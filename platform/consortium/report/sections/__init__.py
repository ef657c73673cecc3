"""The report's sections: one file a feature."""
