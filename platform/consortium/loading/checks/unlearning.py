"""Rules for ``merge.reference`` and for what is removed: ``unlearn.parties`` and ``unlearn.edits``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from consortium.common.counting import count as counted
from consortium.common.errors import shown
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.editor import EDITORS
from consortium.scenario.methods import METHODS, MethodSpec
from consortium.scenario.schema import Scenario

_WITHOUT_BASE = "statistics that are all taken against one model can be subtracted, others cannot"


def reference_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Arms that cannot have the reference ``initial``."""
    for index, method in enumerate(scenario.merge.methods):
        if scenario.merge.reference_of(method) == "initial":
            yield from _base_arm(scenario, method, ("merge", "methods", index))


def _base_arm(scenario: Scenario, method: MethodSpec, path: KeyPath) -> Iterator[FieldError]:
    merge, arm = scenario.merge, f"arm {method.arm!r} has reference: initial"
    if merge.exchange_of(method) != "round":
        found = f"{arm} with exchange: layer, which takes keys from the model as merged so far"
        allowed = "exchange: round, since all keys come from the unedited model"
        yield FieldError(path, found, allowed, "set merge.exchange: round, or exchange: round in the arm's own entry")
    history_weight = merge.history_weight if method.history_weight is None else method.history_weight
    if history_weight != 1:
        found = f"{arm} with history_weight {history_weight}"
        yield FieldError(path, found, "1: the Gram sums of all rounds are in the arm's sum, each of them once")
    editor = scenario.editor
    if editor.merges is not None:
        found = f"{arm} with the editor {editor.method}: {editor.why_not_others}"
        yield FieldError(
            path, found, f"one of the editors {', '.join(n for n, e in EDITORS.items() if e.merges is None)}"
        )
    if scenario.resolves and scenario.unlearn.is_asked:
        found = f"{arm}, edits are removed, and doubles or contradictions of a round are resolved"
        allowed = "one of the two: what was decided would have to be resolved anew without what is removed"
        yield FieldError(path, found, allowed, "set overlap.duplicates: count_all and conflicts.policy: none")
    if scenario.skip_known_of(method) != "none":
        found = (
            f"{arm} with {'overlap.skip_known' if method.skip_known is None else 'skip_known'}: "
            f"{scenario.skip_known_of(method)}"
        )
        yield FieldError(
            path, found, "none: the unedited model, which residuals are taken against, never holds an edit"
        )
    if not method.removable:
        able = ", ".join(name for name, each in METHODS.items() if each.removable)
        found = f"{arm}, and {method.name} makes its update from local ones, which do not add up over rounds"
        yield FieldError(path, found, f"one of the methods that merge sums of statistics: {able}")


def unlearning_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Everything wrong with who leaves and what is removed."""
    yield from _arms_can_unlearn(scenario)
    yield from _in_pairs(scenario)
    yield from _leave(scenario)
    yield from _unlearn(scenario)


def _arms_can_unlearn(scenario: Scenario) -> Iterator[FieldError]:
    merged = [each.arm for each in scenario.merge.methods if scenario.merge.reference_of(each) != "initial"]
    for key in ("parties", "edits"):
        if merged and getattr(scenario.unlearn, key):
            found = f"edits are removed, and arm {merged[0]!r} has reference: current"
            hint = "set merge.reference: initial and merge.exchange: round"
            yield FieldError(("unlearn", key), found, f"reference: initial in every arm: {_WITHOUT_BASE}", hint)


def _in_pairs(scenario: Scenario) -> Iterator[FieldError]:
    if scenario.unlearn.parties and scenario.stream.sharing_group_size != 2:
        found = f"parties leave, and {scenario.stream.sharing_group_size} in a row share edits"
        yield FieldError(
            ("stream", "sharing_group_size"), found, "2: of a pair it is clear what becomes of what they shared"
        )


def _leave(scenario: Scenario) -> Iterator[FieldError]:
    left: Counter[int] = Counter()
    for index, spec in enumerate(scenario.unlearn.parties):
        path = ("unlearn", "parties", index)
        yield from _round_happens(scenario, spec.round, path)
        yield from _parties_exist(scenario, spec.parties, path)
        left.update(set(spec.parties))
    again = sorted(party for party, times in left.items() if times > 1)
    if again:
        yield FieldError(
            ("unlearn", "parties"),
            f"party {again[0]} leaves {counted(left[again[0]], 'time')}",
            "each party at most once",
        )
    if len(left) >= scenario.parties.count:
        found = f"all {counted(scenario.parties.count, 'party')} leave"
        yield FieldError(("unlearn", "parties"), found, "at least one party that stays to the last round")


def _unlearn(scenario: Scenario) -> Iterator[FieldError]:
    left = {party: spec.round for spec in scenario.unlearn.parties for party in spec.parties}
    for index, spec in enumerate(scenario.unlearn.edits):
        path = ("unlearn", "edits", index)
        yield from _round_happens(scenario, spec.round, path)
        yield from _parties_exist(scenario, spec.parties, path)
        if spec.of_round is not None and spec.of_round >= spec.round:
            allowed = f"a round before {spec.round}, in which they are removed"
            yield FieldError((*path, "of_round"), f"found {spec.of_round}", allowed)
        gone = [party for party in spec.parties if left.get(party, spec.round + 1) <= spec.round]
        if gone:
            found = f"party {gone[0]} has left in round {left[gone[0]]}, and its edits with it"
            yield FieldError((*path, "parties"), found, "parties that are still there")


def _round_happens(scenario: Scenario, round_number: int, path: KeyPath) -> Iterator[FieldError]:
    last = scenario.stream.rounds
    if round_number > last:
        yield FieldError((*path, "round"), f"found {round_number}", f"a round up to {last} (stream.rounds)")


def _parties_exist(scenario: Scenario, parties: Sequence[int], path: KeyPath) -> Iterator[FieldError]:
    count = scenario.parties.count
    if max(parties) >= count:
        yield FieldError((*path, "parties"), f"found {max(parties)}", f"numbers from 0 to {count - 1} (parties.count)")
    if len(set(parties)) < len(parties):
        yield FieldError((*path, "parties"), f"found {shown(list(parties))}", "each party once")
