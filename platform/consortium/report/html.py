"""Pieces of HTML that the sections share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from html import escape

import numpy as np

from consortium.common.terminal import printable
from consortium.report.style import UNEDITED_COLOUR, LaneStyle


def text(words: str) -> str:
    """What somebody else wrote, as HTML: its direction is its own, and control characters are shown by their codes."""
    return f"<bdi>{escape(printable(words))}</bdi>"


def sentence(words: str) -> str:
    """A sentence as HTML, in which others' words are marked by :func:`consortium.report.words.own`."""
    return escape(words).replace("\u2068", "<bdi>").replace("\u2069", "</bdi>")


def table(header: str, rows: str) -> str:
    """A table from its header cells and its rows; it scrolls sideways where the screen is narrow."""
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>'


def picture(draw: Callable[[], str]) -> str:
    """What ``draw`` makes, or the reason that it could not: a page does without any of its pictures."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # what is odd about a picture is nothing for the terminal
            return draw()
    except Exception as error:  # noqa: BLE001 (drawing libraries fail in their own ways on numbers of any size)
        reason = str(error).strip() or "no reason was given"
        return f'<p class="notice">This picture could not be drawn: {text(f"{type(error).__name__}: {reason}")}</p>'


def chart(title: str, meaning: str, draw: Callable[[], str], kind: str = "") -> str:
    """A picture under its title and what it means; one of the ``kind`` wide scrolls sideways."""
    drawn = f'<div class="{kind}">{picture(draw)}</div>' if kind else picture(draw)
    return f"<figure><figcaption><b>{escape(title)}</b>{escape(meaning)}</figcaption>{drawn}</figure>"


def unedited_swatch() -> str:
    """The unedited model's dashed line, for legends and tables."""
    return (
        '<svg class="key" width="26" height="14" viewBox="0 0 26 14" aria-hidden="true">'
        f'<path d="M1 7h24" stroke="{UNEDITED_COLOUR}" stroke-width="1.5" stroke-dasharray="5 3"/></svg>'
    )


def swatch(style: LaneStyle) -> str:
    """A lane's line and marker as a small SVG for legends and tables."""
    dashes = {"--": "5 3", "-.": "6 2 1.5 2", ":": "1.5 2.5"}.get(style.line, "none")
    shapes = {
        "o": '<circle cx="13" cy="7" r="3.6"/>',
        "s": '<rect x="9.6" y="3.6" width="6.8" height="6.8"/>',
        "^": '<path d="M13 2.8 17.2 10.6H8.8z"/>',
        "v": '<path d="M13 11.2 17.2 3.4H8.8z"/>',
        "D": '<path d="M13 2.4 17.6 7 13 11.6 8.4 7z"/>',
    }
    shape = shapes.get(style.marker, '<path d="M11.4 3h3.2v2.4H17v3.2h-2.4V11h-3.2V8.6H9V5.4h2.4z"/>')
    return (
        f'<svg class="key" width="26" height="14" viewBox="0 0 26 14" fill="{style.colour}" aria-hidden="true">'
        f'<path d="M1 7h24" stroke="{style.colour}" stroke-width="{min(style.width, 5)}" stroke-dasharray="{dashes}"/>'
        f"{shape}</svg>"
    )
