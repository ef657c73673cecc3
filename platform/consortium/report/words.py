"""Numbers and names as a person reads them, and what metrics and kinds of requests mean."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from consortium.common.counting import count as count
from consortium.common.terminal import printable
from consortium.evaluation.registry import of_column
from consortium.report.results import Results

KIND_MEANINGS = {
    "fresh": "Nobody had this fact before.",
    "overlap": "Another party asks for the same in the same round.",
    "conflict-party": "Another party asks for another answer in the same round.",
    "conflict-round": "An earlier round asked for another answer.",
    "repeat": "Asked for in an earlier round, with the same answer.",
}
"""Kind of request → what it means."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_OWN = re.compile("\u2068([^\u2069]*)\u2069")

_MOST_S = 3600 * 1e6
"""Seconds above which hours are told by their power of ten."""


def not_a_number(value: float) -> str:
    """What stands in place of a number that is not finite."""
    return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"


def size(num_bytes: float) -> str:
    """Bytes in decimal units: 1.23 MB."""
    if not math.isfinite(num_bytes):
        return not_a_number(num_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 999.5 or unit == "TB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    raise AssertionError("the last unit takes all")


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 3 min 20 s; virtual time may last longer than years."""
    if not math.isfinite(seconds):
        return not_a_number(seconds)
    if seconds >= _MOST_S:
        return f"{distance(seconds / 3600)} h"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def distance(value: float | None) -> str:
    """A relative distance: 0.123, or 1.2 × 10⁻⁹ when it is small; a dash where there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return not_a_number(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def metric_name(metric: str) -> str:
    """The name of a metric's column of the results in tables."""
    return of_column(metric).title_of(metric)


def metric_meaning(metric: str) -> str:
    """What a metric's column of the results means, in one line; empty if that is not known here."""
    return of_column(metric).meaning_of(metric)


def measured(value: float, unit: str | None) -> str:
    """A metric's value: percent with one decimal, and other units with three digits that count."""
    if not math.isfinite(value):
        return not_a_number(value)
    if unit is None:
        return f"{value:.1f}"
    return f"{value:.1f}" if 10 <= abs(value) < 1e4 else distance(value)


def own(text: str) -> str:
    """What somebody else wrote, for a sentence: its direction is its own, and no character in it is obeyed.

    Marks about it, of which none is left within it, say so; :func:`parts` finds them.
    """
    return f"\u2068{printable(text)}\u2069"


def parts(text: str) -> list[tuple[str, bool]]:
    """A text's parts, printable, and of each whether it is somebody else's; the marks of :func:`own` are gone."""
    return [(printable(part), bool(place % 2)) for place, part in enumerate(_OWN.split(text)) if part]


def plain(text: str) -> str:
    """A text without the marks of :func:`own`."""
    return "".join(part for part, _ in parts(text))


def listing(names: Sequence[str]) -> str:
    """Names with commas and a last `and`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def main_metric(results: Results) -> str | None:
    """The metric by which arms are ranked: the first that is shown."""
    return next((metric for metric in results.metrics if any(metric in arm.final for arm in results.arms)), None)
