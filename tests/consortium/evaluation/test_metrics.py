"""Probes, sums and means of the metrics, against sums by hand with a backend whose answers are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from consortium.data.edit import Edit, Neighbor
from consortium.evaluation.metrics import ProbeSum, Question, add_sums, also_with_start, ask, harmonic_mean, probes_of
from consortium.models.queries import Probe, Score
from consortium.scenario.schema import EvaluateSpec

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
    [
        ("none", []),
        ("efficacy", ["efficacy_with_start"]),
        ("all", [f"{name}_with_start" for name in ("efficacy", "paraphrase", "neighborhood", "retention")]),
    ],
)
def test_some_questions_are_asked_again_behind_a_documents_start(setting: str, again: list[str]) -> None:
    metrics = ("efficacy", "paraphrase", "neighborhood", "retention", "conflict")
    questions = [Question(metric, 1, TOWER, "Lima") for metric in metrics]
    found = also_with_start(questions, EvaluateSpec.model_validate({"document_start": setting}))
    assert found[: len(questions)] == questions
    assert [question.metric for question in found[len(questions) :]] == again
    for question in found[len(questions) :]:
        plain = replace(question, metric=question.metric.removesuffix("_with_start"))
        assert probes_of(question) == [replace(probe, with_start=True) for probe in probes_of(plain)]


def test_probes_join_their_answers_as_the_edit_says() -> None:
    edit = replace(TOWER, join="", neighbors=(Neighbor("首都は", "東京", " "), Neighbor("The Louvre is in", "Paris")))
    for metric in ("efficacy", "paraphrase", "retention"):
        assert {probe.join for probe in probes_of(Question(metric, 1, edit))} == {""}
    assert [probe.join for probe in probes_of(Question("neighborhood", 1, edit))] == [" ", None]
    assert probes_of(Question("conflict", 1, edit, "Oslo"))[0].join == ""


@pytest.mark.parametrize("metric", ["efficacy", "retention"])
def test_efficacy_and_retention_ask_the_edit_itself(metric: str) -> None:
    assert probes_of(Question(metric, 1, TOWER)) == [Probe("The Eiffel Tower is in", "Rome", "Paris")]
    assert probes_of(Question(metric, 1, BARE)) == [Probe("Big Ben is in", "Oslo", None)]


def test_paraphrase_asks_every_paraphrase() -> None:
    assert probes_of(Question("paraphrase", 1, TOWER)) == [
        Probe("Where is the Eiffel Tower? In", "Rome", "Paris"),
        Probe("Visit the Eiffel Tower in", "Rome", "Paris"),
    ]
    assert probes_of(Question("paraphrase", 1, BARE)) == []


def test_neighborhood_asks_for_the_old_answers_and_leaves_out_a_neighbour_that_has_the_new_one() -> None:
    assert probes_of(Question("neighborhood", 1, TOWER)) == [
        Probe("The Louvre is in", "Paris", "Rome"),
        Probe("Big Ben is in", "London", "Rome"),
    ]
    assert probes_of(Question("neighborhood", 1, replace(TOWER, neighbors=TOWER.neighbors[1:2]))) == []


def test_conflict_asks_the_edit_against_what_the_other_side_wanted() -> None:
    assert probes_of(Question("conflict", 1, TOWER, "Oslo")) == [Probe("The Eiffel Tower is in", "Rome", "Oslo")]


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
    questions = [Question(metric, 3, TOWER) for metric in ("efficacy", "paraphrase", "neighborhood")]
    questions.append(Question("efficacy", 3, BARE))
    assert ask(backend, questions) == {
        ("efficacy", 3): ProbeSum(success=1.0, strict=0.0, num_edits=2, num_probes=2),
        ("paraphrase", 3): ProbeSum(success=0.5, strict=0.0, num_edits=1, num_probes=2),
        ("neighborhood", 3): ProbeSum(success=1.0, strict=0.5, num_edits=1, num_probes=2),
    }
    assert len(backend.asked) == 1, "all probes go to the model at once"


def test_rounds_are_kept_apart_and_edits_without_probes_count_for_nothing() -> None:
    backend = SetAnswers({("The Eiffel Tower is in", "Rome"): 0.5})
    sums = ask(
        backend, [Question("retention", 1, TOWER), Question("retention", 2, BARE), Question("paraphrase", 2, BARE)]
    )
    assert sums == {("retention", 1): ProbeSum(1.0, 0.0, 1, 1), ("retention", 2): ProbeSum(0.0, 0.0, 1, 1)}
    assert ask(backend, []) == {}


def test_sums_of_parts_add_up_to_the_sums_of_the_whole() -> None:
    backend = SetAnswers({("The Eiffel Tower is in", "Rome"): 0.5, ("Visit the Eiffel Tower in", "Rome"): 1.0})
    questions = [
        Question(metric, of_round, edit)
        for edit in (TOWER, BARE)
        for metric in ("efficacy", "paraphrase", "neighborhood", "retention")
        for of_round in (1, 2)
    ]
    whole = ask(backend, questions)
    assert whole[("paraphrase", 1)].success == float(Fraction(1, 2))
    for cut in range(len(questions) + 1):
        assert add_sums([ask(backend, questions[:cut]), ask(backend, questions[cut:])]) == whole
    assert add_sums([]) == {}
    assert ProbeSum() + whole[("efficacy", 1)] == whole[("efficacy", 1)]


def test_the_harmonic_mean_by_hand() -> None:
    """3 / (1/100 + 1/50 + 1/25) = 300 / 7."""
    values = {"efficacy": 100.0, "paraphrase": 50.0, "neighborhood": 25.0, "retention": 1.0}
    assert harmonic_mean(values) == pytest.approx(300 / 7)
    assert harmonic_mean({**values, "paraphrase": 0.0}) == 0.0
    assert harmonic_mean({"efficacy": 100.0, "paraphrase": 50.0}) is None
