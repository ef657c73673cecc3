"""What parties put into a merge once a round is resolved: their edits but those rejected, weighted, and asked again.

The two-stage way of CollabEdit (arXiv 2410.09508, section on knowledge conflict): conflicts are resolved for one side,
and that side's edit is asked again with augmented prompts. What differs: both stages are in one round, so the edit and
its copies in other words go into the same merge. A party knows by itself that it contradicts what it asked for earlier;
such an edit is asked again too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from consortium.data.augmentations import asked_again
from consortium.data.edit import Edit
from consortium.data.party_batch import WeightedEdit
from consortium.data.request import Request
from consortium.features.conflicts.resolution import Decision, Resolution
from consortium.scenario.schema import OverlapSpec, Scenario


def accepted(
    scenario: Scenario, resolution: Resolution, requests: Iterable[Request], edit_of: Callable[[Request], Edit]
) -> list[WeightedEdit]:
    """What goes into the merge of some requests, in their order, each with its copies behind it.

    Args:
        scenario: the scenario.
        resolution: what was decided about the requests.
        requests: what was asked for.
        edit_of: the edit of a request; only asked where copies of it are made.
    """
    found = []
    for request in requests:
        decision = resolution.of(request.party, request.index)
        weight = weight_of(scenario.overlap, decision)
        if weight:
            copies = augmented(scenario, request, decision, edit_of)
            found += [WeightedEdit(request, weight), *(WeightedEdit(request, weight, copy) for copy in copies)]
    return found


def weight_of(overlap: OverlapSpec, decision: Decision) -> float:
    """How much an edit counts in the merge; 0 for one that is rejected."""
    if decision.status == "rejected":
        return 0.0
    return 1.0 / decision.num_asking if overlap.duplicates == "count_once" else 1.0


def augmented(
    scenario: Scenario, request: Request, decision: Decision, edit_of: Callable[[Request], Edit]
) -> tuple[Edit, ...]:
    """The copies in other words of an edit: of one that won, or that overrules what its party asked for earlier."""
    overrules = request.kind == "conflict-round" and decision.status != "rejected"
    is_asked_again = scenario.conflicts.num_paraphrases > 0 and (decision.status == "accepted" or overrules)
    return asked_again(edit_of(request), scenario.conflicts.num_paraphrases) if is_asked_again else ()
