"""The data formats: one a file; :mod:`consortium.data.formats.registry` has them by name."""
