"""How lanes and pages look: one colour, marker and line for each lane everywhere, and the page's style sheet.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), which people with any common colour vision tell apart;
markers and lines differ as well, so that nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.report.results import PHASES

INK = "#1c2733"
FAINT = "#5b6875"
GRID = "#e3e8ed"
UNEDITED_COLOUR = "#6b7680"

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")

PHASE_COLOURS = dict(zip(PHASES, ("#12355b", "#4a7fb0", "#e0a030", "#b9cfe2"), strict=True))
"""Phase of a round → colour; dark to light, with the merge set off."""

OTHER_COLOUR = "#8d99a6"

SPENT_COLOURS = {
    "arithmetic": "#12355b",
    "solving": "#e0a030",
    "waiting": "#d3dae0",
    "calls": "#c0562b",
    "records": OTHER_COLOUR,
}
"""What a host's seconds went into → colour."""


@dataclass(frozen=True)
class LaneStyle:
    """How a lane is drawn."""

    colour: str
    marker: str
    line: str
    width: float = 1.8


def lane_styles(lanes: Sequence[tuple[str, str]]) -> dict[str, LaneStyle]:
    """Lane → style, from (lane, method) in the scenario's order.

    Global edit is a broad grey line beneath: where collabedit does what it promises, one covers the other.
    """
    styles: dict[str, LaneStyle] = {}
    place = 0
    for lane, method in lanes:
        if method == "global" and not any(style.width > 2 for style in styles.values()):
            styles[lane] = LaneStyle("#9aa5b1", "o", "-", 6.0)
            continue
        cycle = place // len(_COLOURS)
        styles[lane] = LaneStyle(
            _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)], _LINES[cycle % len(_LINES)]
        )
        place += 1
    return styles


CSS = """
:root{--ink:#1c2733;--faint:#5b6875;--rule:#dfe5ea;--soft:#f5f7f9;--accent:#0072B2}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans","DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 64px}
header{border-bottom:3px solid var(--ink);padding-bottom:14px;margin-bottom:18px}
.over{color:var(--faint);font-size:.82rem;letter-spacing:.06em;text-transform:uppercase;margin:0}
h1{font-size:2rem;line-height:1.15;margin:.1em 0 .25em;overflow-wrap:anywhere}
h2{font-size:1.28rem;margin:2.4em 0 .5em;padding-top:.7em;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.4em 0 .3em}
p{margin:.5em 0;max-width:48em}
.lead{font-size:1.06rem}
.faint,small{color:var(--faint)}
.status{display:inline-block;font-size:.82rem;font-weight:600;border-radius:99px;padding:.1em .8em;border:1.5px solid}
.done{color:#00674a;border-color:#00674a}.running{color:#005a8c;border-color:#005a8c}
.failed,.interrupted{color:#a63c00;border-color:#a63c00}
.notice{border-left:4px solid #D55E00;background:#fdf3ec;padding:.6em 1em;margin:1em 0;white-space:pre-line;
overflow-wrap:anywhere}
.facts{display:flex;flex-wrap:wrap;gap:.7em 2.2em;border-top:1px solid var(--rule);
border-bottom:1px solid var(--rule);margin:1.2em 0;padding:.7em 0}
.facts dt{color:var(--faint);font-size:.8rem;margin:0}
.facts dd{margin:0;font-weight:600;overflow-wrap:anywhere}
.findings{background:var(--soft);border-left:4px solid var(--accent);padding:.7em 1.1em;margin:1.2em 0}
.findings p:first-child{font-weight:600;font-size:1.08rem}
.scroll{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.42em .65em;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{border-bottom:2px solid var(--ink);font-size:.86rem;line-height:1.25;vertical-align:bottom}
th{text-align:left;font-weight:600}td.n,th.n{text-align:right;white-space:nowrap}
th.n{white-space:normal}td.n small{display:block;font-size:.74rem;line-height:1.2}
.best{font-weight:700}.best::before{content:"★ ";color:var(--accent);font-size:.72em;vertical-align:.15em}
tbody th{white-space:nowrap;position:sticky;left:0;background:#fff}
tbody th small{display:block;font-weight:400;margin-left:34px}
tr.unedited td,tr.unedited th{color:var(--faint);background:var(--soft)}
.key{display:inline-block;vertical-align:-.15em;margin-right:.4em}
.legend{display:flex;flex-wrap:wrap;gap:.2em 1.3em;margin:.4em 0 .8em;padding:0;list-style:none;font-size:.9rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:10px 22px}
.pair{grid-template-columns:minmax(0,345px) minmax(0,1fr)}.pair>dl{align-content:start}
.pair+figure{margin-top:1.6em}figure{margin:0}figure svg,figure img{width:100%;height:auto;display:block}
figcaption{font-size:.86rem;color:var(--faint);line-height:1.35}
figcaption b{display:block;color:var(--ink);font-size:.98rem}
.wide{overflow-x:auto}.wide svg,.wide img{min-width:640px}
dl.meanings{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1em;font-size:.92rem;margin:.8em 0}
dl.meanings dt{font-weight:600}dl.meanings dd{margin:0}
details{margin:.6em 0}summary{cursor:pointer;font-weight:600}
pre{background:var(--soft);padding:1em;overflow-x:auto;font-size:.84rem;line-height:1.4}
footer{margin-top:3em;border-top:1px solid var(--rule);padding-top:.6em;font-size:.86rem;color:var(--faint)}
@media(max-width:760px){.pair{grid-template-columns:1fr}}
@media(max-width:560px){main{padding:18px 14px 48px}h1{font-size:1.6rem}th,td{padding:.38em .45em}
dl.meanings{grid-template-columns:1fr}dl.meanings dd{margin-bottom:.4em}}
@media print{.charts,figure,tr{break-inside:avoid}}
"""
"""The page's style sheet."""
