"""Paraphrase: what generalises."""

from consortium.data.edit import Edit
from consortium.evaluation.rewrite_scores import rewrite_score
from consortium.models.queries import Probe


def probes(edit: Edit) -> list[Probe]:
    """The edit's paraphrases: the new answer against the old one."""
    return [Probe(prompt, edit.target_new, edit.target_old, edit.join) for prompt in edit.paraphrases]


METRIC = rewrite_score(
    "paraphrase",
    "Efficacy, asked in other words than the edits were made with.",
    probes,
    document_start=("all",),
    order=20,
    reads=lambda edit: ("paraphrases",),
)
