"""Parties that misbehave on purpose: who they are, what they ask for, and what they make of their messages."""
