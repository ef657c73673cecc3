"""Neighborhood: what must stay; the answer that should be given is the old one."""

from consortium.data.edit import Edit
from consortium.evaluation.rewrite_scores import rewrite_score
from consortium.models.queries import Probe


def probes(edit: Edit) -> list[Probe]:
    """The edit's neighbours: each one's own answer against the edit's new one."""
    # A neighbour whose own answer happens to be the new target says nothing about the edit.
    neighbors = [each for each in edit.neighbors if each.target != edit.target_new]
    return [Probe(each.prompt, each.target, edit.target_new, each.join) for each in neighbors]


METRIC = rewrite_score(
    "neighborhood",
    "Share of questions about similar things whose answers stayed right: what was not to change.",
    probes,
    document_start=("all",),
    order=30,
    reads=lambda edit: ("neighbors",),
)
