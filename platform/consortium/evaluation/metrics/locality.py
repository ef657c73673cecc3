"""Locality (KnowEdit): questions whose answers must stay; right is what the unedited model says, true or not.

A question's success is the share of tokens in which the edited and the unedited model agree, over as many tokens as
the true answer has; its strict count is agreement in all of them. An edit whose source has no such questions is asked
for its neighbours instead, as EasyEdit does.
"""

from collections.abc import Sequence

from consortium.data.edit import Edit, LocalityProbe
from consortium.evaluation.knowedit import Assessed, decoded_metric, share
from consortium.models.queries import Answer, Probe


def questions(edit: Edit) -> Sequence[LocalityProbe]:
    """An edit's questions whose answers must stay."""
    return edit.locality or [
        LocalityProbe("neighborhood", each.prompt, each.target, each.join) for each in edit.neighbors
    ]


def probes(edit: Edit) -> list[Probe]:
    """The same as probes."""
    return [Probe(each.prompt, each.target, join=each.join) for each in questions(edit)]


def assess(edit: Edit, answers: Sequence[Answer], unedited: Sequence[Answer]) -> list[Assessed]:
    """Whether the two models agree, question by question."""
    return [_agreement(*each) for each in zip(questions(edit), answers, unedited, strict=True)]


def _agreement(probe: LocalityProbe, now: Answer, before: Answer) -> Assessed:
    agreed, is_finite = share(now.said, before.said), now.is_finite and before.is_finite
    return Assessed(probe.kind, agreed, agreed == 1.0, is_finite, probe.prompt, before.text, now.text)


METRIC = decoded_metric(
    "locality",
    "Share of tokens that stayed what the unedited model says, in answers to what was not to change.",
    probes,
    assess,
    order=120,
    reference="unedited",
    reads=lambda edit: ("locality",) if edit.locality else ("neighbors",),
    is_rare=True,
)
