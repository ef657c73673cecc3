"""What was asked for: requests by kind, where not all were fresh."""

from __future__ import annotations

from consortium.report import figures, words
from consortium.report.content import Figure, Figures, Meanings, Run, Section


def section(run: Run) -> Section | None:
    """None where all requests were fresh."""
    counts = run.results.edit_kinds
    kinds = sorted({kind for of_round in counts.values() for kind in of_round})
    if set(kinds) <= {"fresh"}:
        return None
    figure = Figure("edits by kind", "Edits of each round.", figures.kinds_bars, (counts,))
    meanings = Meanings({words.own(kind): words.KIND_MEANINGS.get(kind, "") for kind in kinds})
    return Section("What was asked for", [Figures([figure], meanings)])
