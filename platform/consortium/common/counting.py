"""Numbers with their nouns."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it belongs: 1 party, 1,000 parties."""
    ending = noun[-2:]
    plural = noun[:-1] + "ies" if ending[-1:] == "y" and ending[0] not in "aeiou" else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"
