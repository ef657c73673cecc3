"""Models that can be edited: opening them, finding their layers, running parts of them."""
