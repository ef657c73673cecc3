"""Removal of edits and of parties that leave."""
