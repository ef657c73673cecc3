"""Editors: one file each; :mod:`consortium.editing.editors.registry` has them by name."""
