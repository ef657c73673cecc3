"""The report's section on refused parties: which lanes refused whom, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.records.directory import RunDirectory
from consortium.report import html, words
from consortium.report.results import Results
from consortium.report.style import LaneStyle
from consortium.scenario.schema import Scenario

_MOST_NAMED = 8


def refused(directory: RunDirectory, results: Results, styles: Mapping[str, LaneStyle]) -> str:
    """Parties whose messages were not added, lane by lane; nothing where all were."""
    table = directory.table("parties")
    found = table.filter(pc.is_valid(table["refused"])).select(["lane", "round", "party", "refused"]).to_pylist()
    if not found:
        return ""
    rows = []
    for lane in results.lanes:
        own = [row for row in found if row["lane"] == lane.lane]
        for reason, count in Counter(row["refused"] for row in own).items():
            parties = sorted({row["party"] for row in own if row["refused"] == reason})
            named = words.listing([str(each) for each in parties[:_MOST_NAMED]])
            more = f" and {len(parties) - _MOST_NAMED:,} more" if len(parties) > _MOST_NAMED else ""
            rows.append(
                f'<tr><th scope="row">{html.swatch(styles[lane.lane])}{html.text(lane.lane)}</th>'
                f'<td>{html.text(reason)}</td><td class="n">{count:,}</td><td>{named}{more}</td></tr>'
            )
    header = '<th scope="col">lane</th><th scope="col">why</th><th scope="col" class="n">messages</th>'
    header += '<th scope="col">of parties</th>'
    return f"<h2>Who was refused</h2><p>{_meaning(directory.scenario)}</p>{html.table(header, ''.join(rows))}"


def _meaning(scenario: Scenario) -> str:
    length = scenario.admission.quarantine
    rounds = f"the rest of the {length}" if isinstance(length, str) else words.count(length, "round")
    attacked = " Some parties misbehaved on purpose; what they asked for is not probed." if scenario.attacks else ""
    return (
        "A party whose message cannot be what it says is left out, and the lane’s round begun again without it, as if "
        f"it had asked for nothing. Such a party is out for {rounds} (quarantined).{attacked}"
    )
