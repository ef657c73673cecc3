"""How parties resolve doubles and contradictions within a round without anyone seeing another's edits."""
