"""Whether every accepted edit is in exactly one merge, by the run's own audit."""

from __future__ import annotations

from consortium.engine.audit import Account, account
from consortium.report.content import Run, Section
from consortium.report.words import count, own

_MOST_FIELD_ERRORS = 20


def section(run: Run) -> Section | None:
    """None where there is no audit, or no merge yet."""
    found = account(run.directory)
    if found is None or not found.num_entries:
        return None
    field_errors = map(own, found.field_errors[:_MOST_FIELD_ERRORS])
    return Section("Nothing lost, nothing twice", [_sentence(found), *field_errors])


def _sentence(found: Account) -> str:
    again = f"{count(found.num_asked_again, 'call')} had to be asked again"
    was = "was" if found.num_dropped == 1 else "were"
    dropped = f"{count(found.num_dropped, 'answer')} that came twice or too late {was} dropped"
    if found.field_errors:
        return f"The audit does not add up in {count(len(found.field_errors), 'place')}; {again}, and {dropped}."
    return (
        f"{'The' if found.num_edits == 1 else 'Each of the'} {count(found.num_edits, 'accepted edit')} is in exactly "
        f"one merge of every arm and layer, by {count(found.num_entries, 'entry')} in the audit of "
        f"{count(found.num_merges, 'merge')}; {again}, and {dropped}."
    )
