"""The report's section on the ledger: whether every accepted edit is in exactly one merge."""

from __future__ import annotations

from html import escape

from consortium.engine.audit import Account, account
from consortium.records.directory import RunDirectory
from consortium.report import html, words

_MOST_MISTAKES = 20


def ledger(directory: RunDirectory) -> str:
    """What the run's own tables say; empty where there is no ledger, or no merge yet."""
    found = account(directory)
    if found is None or not found.num_entries:
        return ""
    return f"<h2>Nothing lost, nothing twice</h2><p>{escape(_sentence(found))}</p>{_mistakes(found)}"


def _sentence(found: Account) -> str:
    again = f"{words.count(found.num_asked_again, 'call')} had to be asked again"
    dropped = (
        f"{words.count(found.num_dropped, 'answer')} that came twice or too late {_was(found.num_dropped)} dropped"
    )
    if found.mistakes:
        return f"The ledger does not add up in {words.count(len(found.mistakes), 'place')}; {again}, and {dropped}."
    return (
        f"{'The' if found.num_edits == 1 else 'Each of the'} {words.count(found.num_edits, 'accepted edit')} is in "
        "exactly one merge of every lane and layer, "
        f"by {words.count(found.num_entries, 'entry')} in the ledger of "
        f"{words.count(found.num_merges, 'merge')}; {again}, and {dropped}."
    )


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _mistakes(found: Account) -> str:
    shown = "".join(f"<li>{html.text(each)}</li>" for each in found.mistakes[:_MOST_MISTAKES])
    return f"<ul>{shown}</ul>" if shown else ""
