"""The ledger: every accepted edit is in exactly one merge of each lane and layer, and anybody can check it.

:func:`account` checks what the tables of a run can tell by themselves: each cohort is in each merge once, all lanes and
layers speak of the same edits, and there are as many as the table of rounds counts. :func:`verify` computes from the
scenario which edits must be there, and compares the digests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.common.counting import count
from consortium.common.errors import RunDirectoryError
from consortium.data.edit import FactSet
from consortium.data.party_batch import PartyBatch
from consortium.engine.lanes import batches_of, without
from consortium.features.conflicts.resolver import Standing
from consortium.features.unlearning.requests import cohorts_taking_back
from consortium.loading.inputs import scenario_inputs
from consortium.loading.prepare import open_facts
from consortium.party.audit_digest import Receipt, receipt_of
from consortium.party.data import PrivateEdits
from consortium.records.directory import RunDirectory
from consortium.records.rows import LedgerRow, RoundRow
from consortium.scenario.schema import Scenario

#: A merge, or what was taken back before it: (kind, round, lane, layer).
Place = tuple[str, int, str, int]
#: (round, lane) → parties that the lane's door kept out.
Refused = Mapping[tuple[int, str], frozenset[int]]


@dataclass(frozen=True)
class Account:
    """What the tables of a run say about its merges.

    Attributes:
        num_edits: accepted edits in all rounds, each counted once.
        num_merges: merges: one for each round, lane and layer.
        num_entries: rows of the ledger.
        num_asked_again: calls that were handed out more than once before their answer came.
        num_dropped: answers that came twice, or from hosts that were given up, and were dropped.
        mistakes: what does not add up, in words.
    """

    num_edits: int
    num_merges: int
    num_entries: int
    num_asked_again: int
    num_dropped: int
    mistakes: tuple[str, ...]


def account(directory: RunDirectory, *, checked: bool = True) -> Account | None:
    """What the tables say by themselves; None for a run that is older than the ledger.

    Tables that are not as they were written are refused, unless ``checked`` says to take them as they are.
    """
    if "ledger" not in directory.manifest.tables:
        return None
    entries = [LedgerRow(**row) for row in directory.table("ledger", checked=checked).to_pylist()]
    rounds = [RoundRow(**row) for row in directory.table("rounds", checked=checked).to_pylist()]
    refused = _refused(directory, checked)
    mistakes = [*_balance(directory.scenario, entries, rounds), *_differing(entries, refused)]
    first_lane = directory.scenario.merge.methods[0].lane
    return Account(
        num_edits=sum(row.num_edits for row in rounds if row.lane == first_lane),
        num_merges=len({_place(entry) for entry in entries if entry.kind == "merge"}),
        num_entries=len(entries),
        num_asked_again=sum(entry.num_attempts > 1 for entry in entries),
        num_dropped=sum(entry.num_dropped for entry in entries),
        mistakes=tuple(mistakes),
    )


def verify(run_directory: str | Path | RunDirectory) -> tuple[str, ...]:
    """What of a run is not as it must be, in words; empty when all is.

    First what of its files is not as it was written: tables, checkpoints, what is remembered, TensorBoard's files; and
    which facts and texts are not those that it began with. Then which edits of its committed rounds are not in exactly
    one merge of each lane and layer. Which must be there is computed from the scenario's stream alone, the facts
    included where edits are settled or asked again in other words.

    Raises:
        ConsortiumError: the manifest, the scenario or the facts cannot be read, or are not those of the run.
    """
    directory = run_directory if isinstance(run_directory, RunDirectory) else RunDirectory.open(run_directory)
    damages = directory.differences()
    try:
        return (*damages, *_mistakes(directory))
    except RunDirectoryError as error:  # a table that cannot be read at all
        return damages or (error.found,)


def _mistakes(directory: RunDirectory) -> tuple[str, ...]:
    found = account(directory, checked=False)
    if found is None:
        return (f"{directory.path} is older than the ledger: nothing can be said",)
    entries = [LedgerRow(**row) for row in directory.table("ledger", checked=False).to_pylist()]
    facts = open_facts(directory.scenario)
    return (*_other_inputs(directory, facts), *found.mistakes, *_unlike_the_scenario(directory, facts, entries))


def _other_inputs(directory: RunDirectory, facts: FactSet) -> Iterator[str]:
    began = directory.manifest.inputs
    for name, digest in scenario_inputs(directory.scenario, facts).items():
        if began.get(name, digest) != digest:
            yield f"{name}: not what the run began with"


def _refused(directory: RunDirectory, checked: bool = False) -> Refused:
    """(Round, lane) → parties that were out there, by the table of parties."""
    table = directory.table("parties", ["lane", "party", "refused"], checked=checked)
    found: dict[tuple[int, str], set[int]] = defaultdict(set)
    for row in table.filter(pc.is_valid(table["refused"])).to_pylist():
        found[row["round"], row["lane"]].add(row["party"])
    return {place: frozenset(parties) for place, parties in found.items()}


def _place(entry: LedgerRow) -> Place:
    return entry.kind, entry.round, entry.lane, entry.layer


def _balance(scenario: Scenario, entries: Sequence[LedgerRow], rounds: Sequence[RoundRow]) -> Iterator[str]:
    """Each cohort once in each merge, and as many edits as the table of rounds counts."""
    cohorts: dict[Place, Counter[int]] = defaultdict(Counter)
    num_edits: Counter[Place] = Counter()
    for entry in entries:
        cohorts[_place(entry)][entry.cohort] += 1
        num_edits[_place(entry)] += entry.num_edits
    for row in rounds:
        for layer in scenario.editor.edited_layers:
            counted = {"merge": row.num_edits, "retract": row.num_retracted}
            for kind, number in counted.items():
                place = (kind, row.round, row.lane, layer)
                if num_edits[place] != number:
                    yield f"{_named(place)}: {count(num_edits[place], 'edit')}, where the table of rounds has {number}"
            yield from _missing_or_twice(("merge", row.round, row.lane, layer), cohorts, scenario.num_cohorts)


def _missing_or_twice(place: Place, cohorts: dict[Place, Counter[int]], num_cohorts: int) -> Iterator[str]:
    found = cohorts[place]
    for cohort in sorted({*range(num_cohorts), *found}):
        if found[cohort] != 1:
            yield f"{_named(place)}: cohort {cohort} is in it {count(found[cohort], 'time')}"


def _differing(entries: Sequence[LedgerRow], refused: Refused) -> Iterator[str]:
    """All layers, and all lanes that refused nobody else, are about the same edits of a round's cohort."""
    digests: dict[tuple[str, int, int, frozenset[int]], set[str]] = defaultdict(set)
    for entry in entries:
        out = refused.get((entry.round, entry.lane), frozenset())
        digests[entry.kind, entry.round, entry.cohort, out].add(entry.digest)
    for (kind, number, cohort, _), found in digests.items():
        if len(found) > 1:
            yield f"{kind} of round {number}: lanes or layers differ in the edits of cohort {cohort}"


def _unlike_the_scenario(directory: RunDirectory, facts: FactSet, entries: Sequence[LedgerRow]) -> Iterator[str]:
    scenario = directory.scenario
    private = PrivateEdits(scenario, facts)
    expected: dict[tuple[str, int, str, int], Receipt] = {}
    standing, refused = Standing(scenario.conflicts), _refused(directory)
    for number in range(1, (directory.committed_round or 0) + 1):
        batches = batches_of(scenario, number)
        if scenario.settles:
            settled = standing.settle(number, [private.slips(number, each) for each in range(scenario.num_cohorts)])
            batches = [batch.decided("conflicts", each) for batch, each in zip(batches, settled, strict=True)]
        for spec in scenario.merge.methods:
            out = {earlier: refused.get((earlier, spec.lane), frozenset()) for earlier in range(1, number + 1)}
            present = without(scenario, batches, out[number])
            for kind, receipt in _receipts(scenario, private, present, number, out):
                expected[kind, number, spec.lane, receipt.cohort] = receipt
    for entry in entries:
        place = entry.kind, entry.round, entry.lane, entry.cohort
        receipt = expected.get(place, receipt_of(entry.cohort, ()))
        if (entry.num_edits, entry.digest) != (receipt.num_edits, receipt.digest):
            wanted = count(receipt.num_edits, "edit")
            yield f"{_named(_place(entry))}: not the {wanted} that cohort {entry.cohort} must have"


def _receipts(
    scenario: Scenario,
    private: PrivateEdits,
    batches: Sequence[PartyBatch],
    number: int,
    out: Mapping[int, frozenset[int]],
) -> Iterator[tuple[str, Receipt]]:
    """What every cohort must have in a round's merges, and what it must take back before them.

    ``out`` maps rounds to the parties that the lane refused in them.
    """
    for batch in batches:
        yield "merge", receipt_of(batch.number, private.accepted(batch))
    for cohort in cohorts_taking_back(scenario, private.stream, number):
        yield "retract", receipt_of(cohort, private.taken_back(number, cohort, out))


def _named(place: Place) -> str:
    kind, number, lane, layer = place
    return f"{kind} of round {number}, lane {lane}, layer {layer}"
