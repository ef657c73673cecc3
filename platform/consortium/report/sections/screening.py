"""Who was refused: parties whose messages were not added, arm by arm, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.report.content import Cells, Run, Section, Table
from consortium.report.words import count, listing, own
from consortium.scenario.schema import Scenario

_MOST_NAMED = 8


def section(run: Run) -> Section | None:
    """None where every message was added."""
    table = run.directory.table("parties")
    rejected = table.filter(pc.is_valid(table["rejected"])).select(["arm", "party", "rejected"]).to_pylist()
    if not rejected:
        return None
    rows: list[Cells] = []
    for arm in run.results.arms:
        own_rows = [row for row in rejected if row["arm"] == arm.arm]
        for reason, number in Counter(row["rejected"] for row in own_rows).items():
            parties = sorted({row["party"] for row in own_rows if row["rejected"] == reason})
            rows.append([run.arm(arm.arm), own(reason), f"{number:,}", _named(parties)])
    table = Table(("arm", "why", "messages", "of parties"), rows, align="htnt")
    return Section("Who was refused", [_meaning(run.directory.scenario), table])


def _named(parties: Sequence[int]) -> str:
    more = f" and {len(parties) - _MOST_NAMED:,} more" if len(parties) > _MOST_NAMED else ""
    return listing([str(party) for party in parties[:_MOST_NAMED]]) + more


def _meaning(scenario: Scenario) -> str:
    length = scenario.screening.exclude_for
    rounds = f"the rest of the {length}" if isinstance(length, str) else count(length, "round")
    attacked = " Some parties misbehaved on purpose; what they asked for is not probed." if scenario.attacks else ""
    return (
        "A party whose message cannot be what it says is left out, and the arm’s round begun again without it, as if "
        f"it had asked for nothing. Such a party is out for {rounds} (excluded).{attacked}"
    )
