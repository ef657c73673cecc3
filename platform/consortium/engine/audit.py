"""The audit: every accepted edit is in exactly one merge of each arm and layer, and anybody can check it.

:func:`account` checks what the tables of a run can tell by themselves: each party batch is in each merge once, all arms
and layers speak of the same edits, and there are as many as the table of rounds counts. :func:`verify` computes from
the scenario which edits must be there, and compares the digests.
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
from consortium.engine.rounds import batches_of, batches_without, decided
from consortium.features.audit.inclusion_record import InclusionRecord, inclusion_record_of
from consortium.features.hooks import RoundHook
from consortium.features.registry import round_hooks
from consortium.loading.inputs import scenario_inputs
from consortium.loading.prepare import open_facts
from consortium.party.data import PartyDataset
from consortium.records.directory import RunDirectory
from consortium.records.rows import AuditRow, RoundRow
from consortium.scenario.schema import Scenario

#: A merge, or what was removed before it: (kind, round, arm, layer).
BatchPlace = tuple[str, int, str, int]
#: (round, arm) → parties that the arm's screening kept out.
Rejections = Mapping[tuple[int, str], frozenset[int]]


@dataclass(frozen=True)
class Account:
    """What the tables of a run say about its merges.

    Attributes:
        num_edits: accepted edits in all rounds, each counted once.
        num_merges: merges: one for each round, arm and layer.
        num_entries: rows of the audit.
        num_asked_again: calls that were handed out more than once before their answer came.
        num_dropped: answers that came twice, or from workers that were given up, and were dropped.
        field_errors: what does not add up, in words.
    """

    num_edits: int
    num_merges: int
    num_entries: int
    num_asked_again: int
    num_dropped: int
    field_errors: tuple[str, ...]


def account(directory: RunDirectory, *, checked: bool = True) -> Account | None:
    """What the tables say by themselves; None for a run that is older than the audit.

    Tables that are not as they were written are refused, unless ``checked`` says to take them as they are.
    """
    if "audit" not in directory.manifest.tables:
        return None
    entries = [AuditRow(**row) for row in directory.table("audit", checked=checked).to_pylist()]
    rounds = [RoundRow(**row) for row in directory.table("rounds", checked=checked).to_pylist()]
    rejected = _rejected(directory, checked)
    field_errors = [*_balance(directory.scenario, entries, rounds), *_differing(entries, rejected)]
    first_arm = directory.scenario.merge.methods[0].arm
    return Account(
        num_edits=sum(row.num_edits for row in rounds if row.arm == first_arm),
        num_merges=len({_place(entry) for entry in entries if entry.kind == "merge"}),
        num_entries=len(entries),
        num_asked_again=sum(entry.num_attempts > 1 for entry in entries),
        num_dropped=sum(entry.num_dropped for entry in entries),
        field_errors=tuple(field_errors),
    )


def verify(run_directory: str | Path | RunDirectory) -> tuple[str, ...]:
    """What of a run is not as it must be, in words; empty when all is.

    First what of its files is not as it was written: tables, checkpoints, what is remembered, TensorBoard's files; and
    which facts and texts are not those that it began with. Then which edits of its committed rounds are not in exactly
    one merge of each arm and layer. Which must be there is computed from the scenario's stream alone, the facts
    included where edits are resolved or asked again in other words.

    Raises:
        ConsortiumError: the manifest, the scenario or the facts cannot be read, or are not those of the run.
    """
    directory = run_directory if isinstance(run_directory, RunDirectory) else RunDirectory.open(run_directory)
    damages = directory.differences()
    try:
        return (*damages, *_field_errors(directory))
    except RunDirectoryError as error:  # a table that cannot be read at all
        return damages or (error.found,)


def _field_errors(directory: RunDirectory) -> tuple[str, ...]:
    found = account(directory, checked=False)
    if found is None:
        return (f"{directory.path} is older than the audit: nothing can be said",)
    entries = [AuditRow(**row) for row in directory.table("audit", checked=False).to_pylist()]
    facts = open_facts(directory.scenario)
    return (*_other_inputs(directory, facts), *found.field_errors, *_unlike_the_scenario(directory, facts, entries))


def _other_inputs(directory: RunDirectory, facts: FactSet) -> Iterator[str]:
    began = directory.manifest.inputs
    for name, digest in scenario_inputs(directory.scenario, facts).items():
        if began.get(name, digest) != digest:
            yield f"{name}: not what the run began with"


def _rejected(directory: RunDirectory, checked: bool = False) -> Rejections:
    """(Round, arm) → parties that were out there, by the table of parties."""
    table = directory.table("parties", ["arm", "party", "rejected"], checked=checked)
    found: dict[tuple[int, str], set[int]] = defaultdict(set)
    for row in table.filter(pc.is_valid(table["rejected"])).to_pylist():
        found[row["round"], row["arm"]].add(row["party"])
    return {place: frozenset(parties) for place, parties in found.items()}


def _place(entry: AuditRow) -> BatchPlace:
    return entry.kind, entry.round, entry.arm, entry.layer


def _balance(scenario: Scenario, entries: Sequence[AuditRow], rounds: Sequence[RoundRow]) -> Iterator[str]:
    """Each party batch once in each merge, and as many edits as the table of rounds counts."""
    party_batches: dict[BatchPlace, Counter[int]] = defaultdict(Counter)
    num_edits: Counter[BatchPlace] = Counter()
    for entry in entries:
        party_batches[_place(entry)][entry.party_batch] += 1
        num_edits[_place(entry)] += entry.num_edits
    for row in rounds:
        for layer in scenario.editor.edited_layers:
            counted = {"merge": row.num_edits, "unlearn": row.num_removed}
            for kind, number in counted.items():
                place = (kind, row.round, row.arm, layer)
                if num_edits[place] != number:
                    yield f"{_named(place)}: {count(num_edits[place], 'edit')}, where the table of rounds has {number}"
            yield from _missing_or_twice(
                ("merge", row.round, row.arm, layer), party_batches, scenario.num_party_batches
            )


def _missing_or_twice(
    place: BatchPlace, party_batches: dict[BatchPlace, Counter[int]], num_party_batches: int
) -> Iterator[str]:
    found = party_batches[place]
    for party_batch in sorted({*range(num_party_batches), *found}):
        if found[party_batch] != 1:
            yield f"{_named(place)}: party batch {party_batch} is in it {count(found[party_batch], 'time')}"


def _differing(entries: Sequence[AuditRow], rejected: Rejections) -> Iterator[str]:
    """All layers, and all arms that refused nobody else, are about the same edits of a round's party batch."""
    digests: dict[tuple[str, int, int, frozenset[int]], set[str]] = defaultdict(set)
    for entry in entries:
        out = rejected.get((entry.round, entry.arm), frozenset())
        digests[entry.kind, entry.round, entry.party_batch, out].add(entry.digest)
    for (kind, number, party_batch, _), found in digests.items():
        if len(found) > 1:
            yield f"{kind} of round {number}: arms or layers differ in the edits of party batch {party_batch}"


def _unlike_the_scenario(directory: RunDirectory, facts: FactSet, entries: Sequence[AuditRow]) -> Iterator[str]:
    scenario = directory.scenario
    party_data = PartyDataset(scenario, facts)
    expected: dict[tuple[str, int, str, int], InclusionRecord] = {}
    hooks, rejected = round_hooks(scenario, party_data.stream), _rejected(directory)
    for number in range(1, (directory.committed_round or 0) + 1):
        batches = batches_of(scenario, number)
        for hook in (each for each in hooks if each.announces):
            announced = [party_data.hooks[hook.name].announce(batch) for batch in batches]
            batches = decided(batches, hook, announced)
        for spec in scenario.merge.methods:
            out = {earlier: rejected.get((earlier, spec.arm), frozenset()) for earlier in range(1, number + 1)}
            present = batches_without(scenario, batches, out[number])
            for kind, inclusion_record in _inclusion_records(hooks, party_data, present, number, out):
                expected[kind, number, spec.arm, inclusion_record.party_batch] = inclusion_record
    for entry in entries:
        place = entry.kind, entry.round, entry.arm, entry.party_batch
        inclusion_record = expected.get(place, inclusion_record_of(entry.party_batch, ()))
        if (entry.num_edits, entry.digest) != (inclusion_record.num_edits, inclusion_record.digest):
            wanted = count(inclusion_record.num_edits, "edit")
            yield f"{_named(_place(entry))}: not the {wanted} that party batch {entry.party_batch} must have"


def _inclusion_records(
    hooks: Sequence[RoundHook],
    party_data: PartyDataset,
    batches: Sequence[PartyBatch],
    number: int,
    out: Mapping[int, frozenset[int]],
) -> Iterator[tuple[str, InclusionRecord]]:
    """What every party batch must have in a round's merges, and what it must remove before them.

    ``out`` maps rounds to the parties that the arm refused in them.
    """
    for batch in batches:
        yield "merge", inclusion_record_of(batch.number, party_data.merged(batch))
    for hook in hooks:
        for batch in hook.removals(number, out):
            yield "unlearn", inclusion_record_of(batch.number, party_data.hooks[hook.name].removed(batch))


def _named(place: BatchPlace) -> str:
    kind, number, arm, layer = place
    return f"{kind} of round {number}, arm {arm}, layer {layer}"
