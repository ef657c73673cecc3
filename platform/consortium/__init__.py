"""Consortium: many parties edit one large language model together, and the merge is exact."""

__version__ = "0.1.0"
