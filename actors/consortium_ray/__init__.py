"""The Ray runtime: thin shells around the engine in :mod:`consortium`."""
