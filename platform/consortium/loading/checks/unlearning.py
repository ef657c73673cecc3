"""Rules for ``merge.anchor`` and for what is taken back: ``stream.leave`` and ``stream.retract``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from consortium.common.counting import count as counted
from consortium.common.errors import shown
from consortium.editing.editors.registry import EDITORS
from consortium.loading.mistakes import Mistake
from consortium.loading.yaml_text import KeyPath
from consortium.merging.registry import METHODS
from consortium.scenario.schema import MethodSpec, Scenario

_WITHOUT_BASE = "statistics that are all taken against one model can be subtracted, others cannot"


def anchor_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """Lanes that cannot have the anchor ``base``."""
    for index, method in enumerate(scenario.merge.methods):
        if scenario.merge.anchor_of(method) == "base":
            yield from _base_lane(scenario, method, ("merge", "methods", index))


def _base_lane(scenario: Scenario, method: MethodSpec, path: KeyPath) -> Iterator[Mistake]:
    merge, lane = scenario.merge, f"lane {method.lane!r} has anchor: base"
    if merge.exchange_of(method) != "round":
        found = f"{lane} with exchange: layer, which takes keys from the model as merged so far"
        allowed = "exchange: round, since all keys come from the unedited model"
        yield Mistake(path, found, allowed, "set merge.exchange: round, or exchange: round in the lane's own entry")
    history_weight = merge.history_weight if method.history_weight is None else method.history_weight
    if history_weight != 1:
        found = f"{lane} with history_weight {history_weight}"
        yield Mistake(path, found, "1: the Gram sums of all rounds are in the lane's sum, each of them once")
    editor = EDITORS.get(scenario.editor.method)
    if editor is not None and editor.merges is not None:
        found = f"{lane} with the editor {editor.name}: {editor.why_not_others}"
        yield Mistake(path, found, f"one of the editors {', '.join(n for n, e in EDITORS.items() if e.merges is None)}")
    if scenario.settles and (scenario.stream.leave or scenario.stream.retract):
        found = f"{lane}, edits are taken back, and doubles or contradictions of a round are settled"
        allowed = "one of the two: what was settled would have to be settled anew without what is taken back"
        yield Mistake(path, found, allowed, "set overlap.weigh: each and conflicts.policy: none")
    if scenario.detect_of(method) != "none":
        found = f"{lane} with {'overlap.detect' if method.detect is None else 'detect'}: {scenario.detect_of(method)}"
        yield Mistake(path, found, "none: the unedited model, which residuals are taken against, never holds an edit")
    if method.name in METHODS and not METHODS[method.name].retractable:
        able = ", ".join(name for name, each in METHODS.items() if each.retractable)
        found = f"{lane}, and {method.name} makes its update from local ones, which do not add up over rounds"
        yield Mistake(path, found, f"one of the methods that merge sums of statistics: {able}")


def departure_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """Everything wrong with who leaves and what is taken back."""
    yield from _lanes_can_take_back(scenario)
    yield from _in_pairs(scenario)
    yield from _leave(scenario)
    yield from _retract(scenario)


def _lanes_can_take_back(scenario: Scenario) -> Iterator[Mistake]:
    merged = [each.lane for each in scenario.merge.methods if scenario.merge.anchor_of(each) != "base"]
    for key in ("leave", "retract"):
        if merged and getattr(scenario.stream, key):
            found = f"edits are taken back, and lane {merged[0]!r} has anchor: merged"
            hint = "set merge.anchor: base and merge.exchange: round"
            yield Mistake(("stream", key), found, f"anchor: base in every lane: {_WITHOUT_BASE}", hint)


def _in_pairs(scenario: Scenario) -> Iterator[Mistake]:
    if scenario.stream.leave and scenario.stream.partners != 2:
        found = f"parties leave, and {scenario.stream.partners} in a row share edits"
        yield Mistake(("stream", "partners"), found, "2: of a pair it is clear what becomes of what they shared")


def _leave(scenario: Scenario) -> Iterator[Mistake]:
    left: Counter[int] = Counter()
    for index, spec in enumerate(scenario.stream.leave):
        path = ("stream", "leave", index)
        yield from _round_happens(scenario, spec.round, path)
        yield from _parties_exist(scenario, spec.parties, path)
        left.update(set(spec.parties))
    again = sorted(party for party, times in left.items() if times > 1)
    if again:
        yield Mistake(
            ("stream", "leave"), f"party {again[0]} leaves {counted(left[again[0]], 'time')}", "each party at most once"
        )
    if len(left) >= scenario.parties.count:
        found = f"all {counted(scenario.parties.count, 'party')} leave"
        yield Mistake(("stream", "leave"), found, "at least one party that stays to the last round")


def _retract(scenario: Scenario) -> Iterator[Mistake]:
    left = {party: spec.round for spec in scenario.stream.leave for party in spec.parties}
    for index, spec in enumerate(scenario.stream.retract):
        path = ("stream", "retract", index)
        yield from _round_happens(scenario, spec.round, path)
        yield from _parties_exist(scenario, spec.parties, path)
        if spec.of_round is not None and spec.of_round >= spec.round:
            allowed = f"a round before {spec.round}, in which they are taken back"
            yield Mistake((*path, "of_round"), f"found {spec.of_round}", allowed)
        gone = [party for party in spec.parties if left.get(party, spec.round + 1) <= spec.round]
        if gone:
            found = f"party {gone[0]} has left in round {left[gone[0]]}, and its edits with it"
            yield Mistake((*path, "parties"), found, "parties that are still there")


def _round_happens(scenario: Scenario, round_number: int, path: KeyPath) -> Iterator[Mistake]:
    last = scenario.stream.rounds
    if round_number > last:
        yield Mistake((*path, "round"), f"found {round_number}", f"a round up to {last} (stream.rounds)")


def _parties_exist(scenario: Scenario, parties: Sequence[int], path: KeyPath) -> Iterator[Mistake]:
    count = scenario.parties.count
    if max(parties) >= count:
        yield Mistake((*path, "parties"), f"found {max(parties)}", f"numbers from 0 to {count - 1} (parties.count)")
    if len(set(parties)) < len(parties):
        yield Mistake((*path, "parties"), f"found {shown(list(parties))}", "each party once")
