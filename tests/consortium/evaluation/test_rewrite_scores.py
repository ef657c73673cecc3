"""Efficacy, paraphrase, neighborhood and retention, against sums by hand with a backend whose answers are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from consortium.data.edit import Edit, Neighbor
from consortium.evaluation.item import AskedEdit
from consortium.evaluation.metrics import neighborhood, paraphrase
from consortium.evaluation.metrics.score import harmonic_mean
from consortium.evaluation.rewrite_scores import own_probe
from consortium.evaluation.sums import ProbeSum, add_sums
from consortium.models.queries import Probe, Score
from consortium.scenario.schema import EvaluateSpec
from support.evaluation import EditBatch, items_of, measured, measured_in

TOWER = Edit(
    "tower",
    "city",
    "Eiffel Tower",
    "The {} is in",
    "Rome",
    "Paris",
    ("Where is the Eiffel Tower? In", "Visit the Eiffel Tower in"),
    (
        Neighbor("The Louvre is in", "Paris"),
        Neighbor("The Colosseum is in", "Rome"),
        Neighbor("Big Ben is in", "London"),
    ),
)
BARE = Edit("bare", "city", "Big Ben", "{} is in", "Oslo")
ALL = ("efficacy", "paraphrase", "neighborhood", "retention")


class SetAnswers:
    """A backend that gives each (prompt, target) a set negative log likelihood; 9 where none is set."""

    def __init__(self, nll: Mapping[tuple[str, str], float], strict: Sequence[tuple[str, str]] = ()) -> None:
        self.nll, self.strict = nll, strict
        self.asked: list[list[Probe]] = []

    def score(self, probes: Sequence[Probe]) -> list[Score]:
        self.asked.append(list(probes))
        return [self.answer(probe) for probe in probes]

    def answer(self, probe: Probe) -> Score:
        def nll_of(target: str) -> float:
            return self.nll.get((probe.prompt, target), 9.0)

        rival = None if probe.rival is None else nll_of(probe.rival)
        return Score(nll_of(probe.target), rival, (probe.prompt, probe.target) in self.strict)


@pytest.mark.parametrize(
    ("setting", "again"),
    [("none", []), ("efficacy", ["efficacy"]), ("all", list(ALL))],
    ids=["none", "efficacy", "all"],
)
def test_some_probes_are_asked_again_behind_a_documents_start(setting: str, again: list[str]) -> None:
    spec = EvaluateSpec.model_validate({"document_start": setting})
    batch = EditBatch([TOWER], spec, has_document_start=True, earlier_edits=[AskedEdit(BARE, 1)])
    texts = {item.column: item.texts for _, item in items_of(batch, *ALL)}
    assert [column for column in texts if column.endswith("_with_start")] == [f"{name}_with_start" for name in again]
    for name in again:
        assert texts[f"{name}_with_start"] == tuple(replace(probe, with_start=True) for probe in texts[name])
    batch.has_document_start = False
    assert [item.column for _, item in items_of(batch, *ALL)] == list(ALL)


def test_probes_join_their_answers_as_the_edit_says() -> None:
    edit = replace(TOWER, join="", neighbors=(Neighbor("首都は", "東京", " "), Neighbor("The Louvre is in", "Paris")))
    assert {probe.join for probe in (*own_probe(edit), *paraphrase.probes(edit))} == {""}
    assert [probe.join for probe in neighborhood.probes(edit)] == [" ", None]


def test_efficacy_and_retention_ask_the_edit_itself() -> None:
    assert own_probe(TOWER) == [Probe("The Eiffel Tower is in", "Rome", "Paris")]
    assert own_probe(BARE) == [Probe("Big Ben is in", "Oslo", None)]
    batch = EditBatch([TOWER], earlier_edits=[AskedEdit(BARE, 1)])
    found = [(item.column, item.of_round, item.texts) for _, item in items_of(batch, "efficacy", "retention")]
    assert found == [("efficacy", 3, tuple(own_probe(TOWER))), ("retention", 1, tuple(own_probe(BARE)))]
    batch.is_edited = False
    assert items_of(batch, "retention") == []


def test_paraphrase_asks_every_paraphrase() -> None:
    assert paraphrase.probes(TOWER) == [
        Probe("Where is the Eiffel Tower? In", "Rome", "Paris"),
        Probe("Visit the Eiffel Tower in", "Rome", "Paris"),
    ]
    assert paraphrase.probes(BARE) == []


def test_neighborhood_asks_for_the_old_answers_and_leaves_out_a_neighbour_that_has_the_new_one() -> None:
    assert neighborhood.probes(TOWER) == [
        Probe("The Louvre is in", "Paris", "Rome"),
        Probe("Big Ben is in", "London", "Rome"),
    ]
    assert neighborhood.probes(replace(TOWER, neighbors=TOWER.neighbors[1:2])) == []


def test_success_is_likelier_than_the_rival_or_without_a_rival_strict() -> None:
    assert Score(1.0, 2.0, strict=False).success
    assert not Score(2.0, 1.0, strict=True).success
    assert not Score(1.0, 1.0, strict=False).success
    assert Score(5.0, None, strict=True).success
    assert not Score(0.1, None, strict=False).success


def test_probes_of_an_edit_are_averaged_first_then_edits_are_summed() -> None:
    """Paraphrases: one of two succeeds, and neither is strict. Neighbours: both succeed, one is strict."""
    backend = SetAnswers(
        {
            ("The Eiffel Tower is in", "Rome"): 0.5,
            ("Where is the Eiffel Tower? In", "Rome"): 3.0,
            ("Where is the Eiffel Tower? In", "Paris"): 2.0,
            ("Visit the Eiffel Tower in", "Rome"): 1.0,
            ("The Louvre is in", "Paris"): 1.0,
            ("Big Ben is in", "London"): 1.0,
        },
        [("The Louvre is in", "Paris")],
    )
    assert measured(backend, [TOWER, BARE], "efficacy", "paraphrase", "neighborhood") == {
        ("efficacy", 3): ProbeSum(value=1.0, strict=0.0, num_edits=2, num_probes=2),
        ("paraphrase", 3): ProbeSum(value=0.5, strict=0.0, num_edits=1, num_probes=2),
        ("neighborhood", 3): ProbeSum(value=1.0, strict=0.5, num_edits=1, num_probes=2),
    }
    assert len(backend.asked) == 1, "all probes go to the model at once"


def test_rounds_are_kept_apart_and_edits_without_probes_count_for_nothing() -> None:
    backend = SetAnswers({("The Eiffel Tower is in", "Rome"): 0.5})
    batch = EditBatch([BARE], earlier_edits=[AskedEdit(TOWER, 1), AskedEdit(BARE, 2)])
    sums = measured_in(backend, batch, "paraphrase", "retention")
    assert sums == {("retention", 1): ProbeSum(1.0, 0.0, 1, 1), ("retention", 2): ProbeSum(0.0, 0.0, 1, 1)}
    assert measured(backend, [], *ALL) == {}


def test_an_answer_that_is_not_finite_is_left_out_and_counted() -> None:
    """Of two paraphrases one has no likelihood: the other one is all that the edit has; no answer is no edit."""
    lost = ("Where is the Eiffel Tower? In", "Rome")
    backend = SetAnswers({lost: float("nan"), ("Visit the Eiffel Tower in", "Rome"): 1.0})
    assert measured(backend, [TOWER], "paraphrase") == {("paraphrase", 3): ProbeSum(1.0, 0.0, 1, 1, 1)}
    backend = SetAnswers({lost: float("nan")})
    one = replace(TOWER, paraphrases=TOWER.paraphrases[:1])
    (total,) = measured(backend, [one, TOWER], "paraphrase").values()
    assert total == ProbeSum(0.0, 0.0, 1, 1, 2)


def test_sums_of_parts_add_up_to_the_sums_of_the_whole() -> None:
    backend = SetAnswers({("The Eiffel Tower is in", "Rome"): 0.5, ("Visit the Eiffel Tower in", "Rome"): 1.0})
    edits = [TOWER, BARE, BARE, TOWER, TOWER]
    names = ("efficacy", "paraphrase", "neighborhood")
    whole = measured(backend, edits, *names)
    assert whole["paraphrase", 3].value == float(Fraction(3, 2))
    for cut in range(len(edits) + 1):
        parts = [measured(backend, part, *names) for part in (edits[:cut], edits[cut:])]
        assert add_sums(parts) == whole
    assert add_sums([]) == {}
    assert ProbeSum() + whole["efficacy", 3] == whole["efficacy", 3] == whole["efficacy", 3] + ProbeSum()


def test_the_harmonic_mean_by_hand() -> None:
    """3 / (1/100 + 1/50 + 1/25) = 300 / 7."""
    assert harmonic_mean([100.0, 50.0, 25.0]) == pytest.approx(300 / 7)
    assert harmonic_mean([100.0, 0.0, 25.0]) == 0.0
