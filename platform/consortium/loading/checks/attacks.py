"""Rules for ``attacks``: parties that misbehave on purpose."""

from __future__ import annotations

from collections.abc import Iterator

from consortium.common.counting import count as counted
from consortium.common.errors import shown
from consortium.data.attackers import attackers
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.attacks import AttackSpec
from consortium.scenario.schema import Scenario

_OF_GRAM = ("non_symmetric", "non_psd")


def attack_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Everything wrong with who attacks, when and how."""
    field_errors = [
        field_error
        for index, attack in enumerate(scenario.attacks)
        for field_error in _attack_errors(scenario, attack, ("attacks", index))
    ]
    yield from field_errors
    if not field_errors and len(attackers(scenario)) == scenario.parties.count:
        yield FieldError(
            ("attacks",), f"all {counted(scenario.parties.count, 'party')} attack", "at least one honest party"
        )


def _attack_errors(scenario: Scenario, attack: AttackSpec, path: KeyPath) -> Iterator[FieldError]:
    count, rounds = scenario.parties.count, scenario.stream.rounds
    if bool(attack.parties) == (attack.share is not None):
        found = "both parties and a share" if attack.parties else "neither parties nor a share"
        yield FieldError(path, f"found {found}", "one of the two: numbers of parties, or a share of all")
    if any(party >= count for party in attack.parties):
        yield FieldError(
            (*path, "parties"), f"found {max(attack.parties)}", f"numbers from 0 to {count - 1} (parties.count)"
        )
    if len(set(attack.parties)) < len(attack.parties):
        yield FieldError((*path, "parties"), f"found {shown(list(attack.parties))}", "each party once")
    if attack.rounds is not None and not attack.rounds[0] <= attack.rounds[1] <= rounds:
        allowed = f"the first round, then the last, up to {rounds} (stream.rounds)"
        yield FieldError((*path, "rounds"), f"found {shown(list(attack.rounds))}", allowed)
    with_global = any(method.name == "global" for method in scenario.merge.methods)
    if attack.kind in _OF_GRAM and with_global:
        found = f"found {attack.kind} with the merge method global, whose owner of all edits sends no Gram matrix"
        yield FieldError((*path, "kind"), found, "another kind, or merge.methods without global")
