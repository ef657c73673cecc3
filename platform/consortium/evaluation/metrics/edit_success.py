"""Edit success: the edit's own prompt, read token by token (KnowEdit)."""

from collections.abc import Sequence

from consortium.data.edit import Edit
from consortium.evaluation.knowedit import Assessed, by_names, decoded_metric
from consortium.models.queries import Answer, Probe


def probes(edit: Edit) -> list[Probe]:
    """The edit's own prompt."""
    return [Probe(edit.text, edit.target_new, join=edit.join)]


def assess(edit: Edit, answers: Sequence[Answer], _: Sequence[Answer]) -> list[Assessed]:
    """Whether it is answered with the new target."""
    return [by_names("edit", answers, edit.text, edit.target_new)]


METRIC = decoded_metric(
    "edit_success",
    "Share of the new answers' tokens that the model says to the edits' own prompts.",
    probes,
    assess,
    document_start=("efficacy", "all"),
    order=100,
)
