"""Screening: which parties' messages are added to a sum, and what becomes of those that are refused."""
