"""The merge methods: one a file; :mod:`consortium.merging.registry` has them by name."""
