"""What was left out since its numbers are not finite: a row for each measure, and a column for each arm."""

from __future__ import annotations

from consortium.report.content import Run, Section, Table
from consortium.report.not_finite import left_out
from consortium.report.words import metric_name, own

_INTRO = (
    "NaN or infinity is no answer and no edit: it was left out of every figure and every merge, over all rounds so "
    "often. Perplexity is counted in tokens."
)


def section(run: Run) -> Section | None:
    """None where all was finite."""
    cells = {(each.arm, each.what): each.share for each in left_out(run.directory)}
    if not cells:
        return None
    arms, measures = (dict.fromkeys(key[place] for key in cells) for place in (0, 1))
    rows = [[own(metric_name(what)), *(cells.get((arm, what), "–") for arm in arms)] for what in measures]
    return Section("What was not finite", [_INTRO, Table(("what", *map(own, arms)), rows)])
