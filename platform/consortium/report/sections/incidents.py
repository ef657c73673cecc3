"""What broke: faults, resumes and whatever else is out of the ordinary."""

from __future__ import annotations

from consortium.report.content import Block, Run, Section, Table
from consortium.report.words import duration, listing, own

_ORDINARY = {
    *("open-model", "covariance", "contexts", "announce", "targets", "collect", "unlearn", "add", "merge", "evaluate"),
    *("commit", "records", "worker-started", "worker-stopped", "refused"),
}
_MOST_INCIDENTS = 50


def section(run: Run) -> Section:
    """It is said, too, that nothing broke."""
    incidents = [event for event in run.results.events if event.kind not in _ORDINARY]
    remarks = []
    if run.directory.manifest.error:
        remarks.append("The run failed, as said above.")
    if run.directory.manifest.resumed:
        times = [each[:16].replace("T", " ") + " UTC" for each in run.directory.manifest.resumed]
        remarks.append(f"The run was resumed: {listing(times)}.")
    if not incidents:
        remarks.append("No worker was lost in what was committed." if remarks else "Nothing.")
        return Section("What broke", [" ".join(remarks)])
    remarks.append("A round counts as a whole or not at all, and nothing is merged twice, whatever broke in it.")
    rows = [
        [duration(event.time_s), str(event.round), own(event.kind), own(event.worker or ""), own(event.detail or "")]
        for event in incidents[:_MOST_INCIDENTS]
    ]
    parts: list[Block] = [" ".join(remarks), Table(("time", "round", "what", "worker", "more"), rows, align="ntttt")]
    hidden = len(incidents) - _MOST_INCIDENTS
    return Section("What broke", [*parts, *[f"And {hidden:,} more in the table of events."] * (hidden > 0)])
