"""How arms look: one colour, marker and line for each arm everywhere.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which people with any common colour vision tell apart;
markers and lines differ as well, so that nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.report.results import TIMED_PHASES

INK = "#1c2733"
FAINT = "#5b6875"
GRID = "#e3e8ed"

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")

PHASE_COLOURS = dict(zip(TIMED_PHASES, ("#12355b", "#4a7fb0", "#e0a030", "#b9cfe2"), strict=True))
"""Phase of a round → colour; dark to light, with the merge set off."""

OTHER_COLOUR = "#8d99a6"

KIND_COLOURS = ("#b9cfe2", "#4a7fb0", "#c0562b", "#e0a030", "#12355b", OTHER_COLOUR)
"""Kinds of requests, or what became of them, in the order of names."""

SPENT_COLOURS = {
    "arithmetic": "#12355b",
    "solving": "#e0a030",
    "waiting": "#d3dae0",
    "calls": "#c0562b",
    "records": OTHER_COLOUR,
}
"""What a worker's seconds went into → colour."""


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn."""

    colour: str
    marker: str
    line: str
    width: float = 1.8


UNEDITED_STYLE = ArmStyle("#6b7680", "", "--", 1.5)
"""How the unedited model is drawn: a dashed line."""


def arm_styles(arms: Sequence[tuple[str, str]]) -> dict[str, ArmStyle]:
    """Arm → style, from (arm, method) in the scenario's order.

    Global edit is a broad grey line beneath: where collabedit does what it promises, one covers the other.
    """
    styles: dict[str, ArmStyle] = {}
    place = 0
    for arm, method in arms:
        if method == "global" and not any(style.width > 2 for style in styles.values()):
            styles[arm] = ArmStyle("#9aa5b1", "o", "-", 6.0)
            continue
        cycle = place // len(_COLOURS)
        styles[arm] = ArmStyle(
            _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)], _LINES[cycle % len(_LINES)]
        )
        place += 1
    return styles
