"""What an attacker makes of its own message, between the making of it and screening.

Refused by screening (:mod:`consortium.features.screening.checks`):

    nan, inf      one number of it
    shape         keys of one number less
    asymmetric    an entry of the Gram matrix without its mirror image
    indefinite    a negative entry on its diagonal
    stale         said to be of the round before
    replay        sent twice
    huge          scale by 1e9

Poisoning that passes, as long as it is small enough:

    scale         cross sums, or the update, times ``factor``: each edit overshoots so many times
    flip          the same times -1: each edit is pushed away from its target
    target        honest statistics of edits that contradict a victim's (:mod:`consortium.data.attackers`)

Source: sign flips and scaled updates as in Blanchard et al. 2017 (arXiv 1703.02757) and Sun et al. 2019, Can you really
backdoor federated learning? (arXiv 1911.07963).

Shapes: K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from consortium.common.arrays import Array
from consortium.merging.bucketing import BucketSums
from consortium.merging.deltas import DeltaSum, DenseUpdate, Update
from consortium.merging.method import Contribution
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.methods.ties import SignedSums
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics, Statistics
from consortium.scenario.attacks import AttackSpec, ScaleAttackSpec

Message = Statistics | DeltaSum | SignedSums | OwnedEdits
_M = TypeVar("_M", bound=Message)


def misbehave(attacks: Sequence[AttackSpec], message: Contribution) -> list[Contribution]:
    """What a party sends in place of its message: the outcome of one attack after the other, perhaps twice."""
    if isinstance(message, BucketSums):
        (number,) = message.buckets
        return [BucketSums({number: each}) for each in _changed(attacks, message.buckets[number])]  # type: ignore[dict-item]
    return list(_changed(attacks, message))


def _changed(attacks: Sequence[AttackSpec], message: Contribution) -> list[Message]:
    assert isinstance(message, Message), f"attacks do not know {type(message).__name__}"
    for attack in attacks:
        message = _CHANGES[attack.kind](message, attack)
    return [message] * (2 if any(attack.kind == "replay" for attack in attacks) else 1)


def scaled(message: Message, factor: float) -> Message:
    """The message with its cross sums, residuals or update times a factor; Gram sums stay."""
    if isinstance(message, DenseStatistics):
        return replace(message, cross_VK=factor * message.cross_VK)
    if isinstance(message, FactoredStatistics):
        return replace(message, image_VN=factor * message.image_VN)
    if isinstance(message, OwnedEdits):
        return replace(message, residuals=tuple(factor * block for block in message.residuals))
    if isinstance(message, DeltaSum):
        return replace(message, update=_scaled_update(message.update, factor))
    parts = message.positive_VK, message.negative_VK
    counts = message.num_positive_VK, message.num_negative_VK
    positive, negative = (0, 1) if factor >= 0 else (1, 0)
    sums = factor * parts[positive], factor * parts[negative]
    return SignedSums(*sums, counts[positive], counts[negative], message.gram)


def _scaled_update(update: Update, factor: float) -> Update:
    if isinstance(update, DenseUpdate):
        return DenseUpdate(factor * update.delta_VK)
    return replace(update, weights_VN=factor * update.weights_VN)


def _spoiled(message: Message, value: float) -> Message:
    """The message with one of its numbers replaced; one without numbers stays as it is."""

    def change(array: Array) -> Array:
        spoiled = np.array(array)
        spoiled.flat[:1] = value
        return spoiled

    if isinstance(message, OwnedEdits):
        return replace(message, residuals=tuple(map(change, message.residuals)))
    if isinstance(message, DeltaSum):
        if isinstance(message.update, DenseUpdate):
            return replace(message, update=DenseUpdate(change(message.update.delta_VK)))
        return replace(message, update=replace(message.update, weights_VN=change(message.update.weights_VN)))
    name = {DenseStatistics: "cross_VK", FactoredStatistics: "image_VN", SignedSums: "positive_VK"}[type(message)]
    changes: dict[str, Any] = {name: change(getattr(message, name))}
    return replace(message, **changes)


def _narrowed(message: Message) -> Message:
    """The message with keys of K - 1 numbers."""
    if isinstance(message, OwnedEdits):
        return replace(message, keys=tuple(block[:-1] for block in message.keys))
    if isinstance(message, SignedSums):
        names = ("positive_VK", "negative_VK", "num_positive_VK", "num_negative_VK")
        changes: dict[str, Any] = {name: getattr(message, name)[:, :-1] for name in names}
        return replace(message, **changes, gram=_narrowed_statistics(message.gram))
    if isinstance(message, DeltaSum):
        update = message.update
        less: Update = (
            DenseUpdate(update.delta_VK[:, :-1])
            if isinstance(update, DenseUpdate)
            else replace(update, solved_KN=update.solved_KN[:-1])
        )
        return DeltaSum(less, _narrowed_statistics(message.gram))
    return _narrowed_statistics(message)


def _narrowed_statistics(statistics: Statistics) -> Statistics:
    if isinstance(statistics, FactoredStatistics):
        return replace(statistics, factor_KN=statistics.factor_KN[:-1])
    return replace(statistics, gram_KK=statistics.gram_KK[:-1, :-1], cross_VK=statistics.cross_VK[:, :-1])


def _with_gram(message: Message, change: Callable[[Array], None]) -> Message:
    """The message with dense Gram sums that ``change`` has written to."""
    if isinstance(message, DeltaSum | SignedSums):
        return replace(message, gram=_changed_gram(message.gram, change))
    assert not isinstance(message, OwnedEdits), "refused by the checks: the owner of all edits sends no Gram matrix"
    return _changed_gram(message, change)


def _changed_gram(statistics: Statistics, change: Callable[[Array], None]) -> DenseStatistics:
    dense = statistics.dense()
    gram_KK = np.array(dense.gram_KK)
    change(gram_KK)
    return replace(dense, gram_KK=gram_KK)


def _lean(gram_KK: Array) -> None:
    gram_KK[0, -1] += 1.0 + np.trace(gram_KK)


def _sink(gram_KK: Array) -> None:
    gram_KK[0, 0] -= 1.0 + 2.0 * np.trace(gram_KK)


def _outdated(message: Message) -> Message:
    """The message, said to be of the round before."""

    def of_before(part: _M) -> _M:
        basis = part.basis
        changes: dict[str, Any] = {"basis": Basis(basis.arm, basis.round - 1, basis.layer)}
        return replace(part, **changes)

    if isinstance(message, DeltaSum | SignedSums):
        return replace(message, gram=of_before(message.gram))
    return of_before(message)


def _factor_of(attack: AttackSpec) -> float:
    assert isinstance(attack, ScaleAttackSpec), f"{attack.kind} has no factor"
    return attack.factor


_CHANGES: dict[str, Callable[[Message, AttackSpec], Message]] = {
    "nan": lambda message, _: _spoiled(message, np.nan),
    "inf": lambda message, _: _spoiled(message, np.inf),
    "shape": lambda message, _: _narrowed(message),
    "non_symmetric": lambda message, _: _with_gram(message, _lean),
    "non_psd": lambda message, _: _with_gram(message, _sink),
    "stale": lambda message, _: _outdated(message),
    "replay": lambda message, _: message,
    "oversized": lambda message, _: scaled(message, 1e9),
    "scale": lambda message, attack: scaled(message, _factor_of(attack)),
    "sign_flip": lambda message, _: scaled(message, -1.0),
    "targeted": lambda message, _: message,
}
