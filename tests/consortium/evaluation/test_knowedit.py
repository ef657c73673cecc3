"""KnowEdit's metrics: sums by hand with a backend whose answers are set, and EasyEdit's loop on a pico model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from consortium.data.edit import Edit, LocalityProbe, Neighbor, PortabilityProbe
from consortium.editing.language import LanguageBackend
from consortium.evaluation import registry
from consortium.evaluation.metrics.fluency import entropy
from consortium.evaluation.metrics.locality import probes as locality_probes
from consortium.evaluation.sums import ProbeSum
from consortium.models.queries import Answer, Generation, Probe
from consortium.scenario.editor import MemitSpec
from support.evaluation import measured
from support.pico import pico_model

from benchmarks.naive.decoding import answer_probes_naively, write_naively

TOWER = Edit(
    "tower",
    "city",
    "Eiffel Tower",
    "The {} is in",
    "Rome",
    "Paris",
    portability=(
        PortabilityProbe("alias", "The iron lady is in", ("Rome", "Roma")),
        PortabilityProbe("reasoning", "The tower's country is", ("Italy",)),
        PortabilityProbe("reasoning", "The tower's river is", ("the Tiber",)),
    ),
    locality=(
        LocalityProbe("near", "The tower is made of", "iron"),
        LocalityProbe("near", "The Louvre is in", "Paris and"),
        LocalityProbe("forgetfulness", "Not in Rome, but in", "Paris"),
    ),
    generation_prompts=("The tower", "In its city"),
)
BARE = Edit("bare", "city", "Big Ben", "{} is in", "Oslo", neighbors=(Neighbor("The Thames is in", "London"),))


class SetAnswers:
    """A backend whose answers to (prompt, target) and texts are set; what is wanted is always (1, 2, 3)."""

    has_document_start = False

    def __init__(self, said: Mapping[tuple[str, str], tuple[int, ...]], texts: Mapping[str, str]) -> None:
        self.said, self.texts = said, texts
        self.decodings: list[str] = []
        self.generations: list[Generation] = []

    def answer(self, probes: Sequence[Probe], decoding: str) -> list[Answer]:
        self.decodings.append(decoding)
        said = [self.said.get((probe.prompt, probe.target), (0, 0, 0)) for probe in probes]
        return [Answer(tokens, (1, 2, 3), tokens == (1, 2, 3)) for tokens in said]

    def write(self, prompts: Sequence[str], generation: Generation) -> list[str]:
        self.generations.append(generation)
        return [self.texts[prompt] for prompt in prompts]


def test_edit_success_is_the_share_of_right_tokens() -> None:
    """Two of three right, and all of them: 5/3 of two edits, one of them whole."""
    backend = SetAnswers({("The Eiffel Tower is in", "Rome"): (1, 0, 3), ("Big Ben is in", "Oslo"): (1, 2, 3)}, {})
    assert measured(backend, [TOWER, BARE], "edit_success") == {
        ("edit_success", 3): ProbeSum(pytest.approx(5 / 3), 1.0, 2, 2)
    }


def test_edit_success_is_measured_again_behind_a_documents_start_where_there_is_one() -> None:
    class TwoWays(SetAnswers):
        has_document_start = True

        def answer(self, probes: Sequence[Probe], decoding: str) -> list[Answer]:
            return [Answer((1, 2, 3 if probe.with_start else 0), (1, 2, 3), probe.with_start) for probe in probes]

    assert measured(TwoWays({}, {}), [TOWER], "edit_success") == {
        ("edit_success", 3): ProbeSum(pytest.approx(2 / 3), 0.0, 1, 1),
        ("edit_success_with_start", 3): ProbeSum(1.0, 1.0, 1, 1),
    }


def test_portability_is_averaged_over_questions_then_kinds_then_edits() -> None:
    """Alias: 1/3 by the usual name, whole by the other one. Reasoning: 1 and 0. Mean of the kinds: (1/3 + 1/2) / 2."""
    backend = SetAnswers(
        {
            ("The iron lady is in", "Rome"): (1, 0, 0),
            ("The iron lady is in", "Roma"): (1, 2, 3),
            ("The tower's country is", "Italy"): (1, 2, 3),
        },
        {},
    )
    assert measured(backend, [TOWER, BARE], "portability") == {
        ("portability", 3): ProbeSum(pytest.approx(5 / 12), pytest.approx(3 / 4), 1, 3),
        ("portability_alias", 3): ProbeSum(pytest.approx(1 / 3), 1.0, 1, 1),
        ("portability_reasoning", 3): ProbeSum(0.5, 0.5, 1, 2),
    }


def test_locality_is_agreement_with_the_unedited_model_whether_it_was_right_or_not() -> None:
    """Near: one of three tokens the same, and all. Forgetfulness: none. Big Ben's neighbour: all, and all wrong."""
    backend = SetAnswers(
        {("The tower is made of", "iron"): (7, 2, 9), ("The Louvre is in", "Paris and"): (4, 5, 6)}, {}
    )
    own = [Answer(said, (1, 2, 3), is_target=False) for said in ((7, 8, 8), (4, 5, 6), (9, 9, 9), (0, 0, 0))]
    assert [probe.prompt for edit in (TOWER, BARE) for probe in locality_probes(edit)][2:] == [
        "Not in Rome, but in",
        "The Thames is in",
    ]
    assert measured(backend, [TOWER, BARE], "locality", reference=own) == {
        ("locality", 3): ProbeSum(pytest.approx((1 / 3 + 1) / 2 / 2 + 1), 1 / 4 + 1, 2, 4)
    }


def test_fluency_is_written_after_the_edits_generation_prompts_or_its_own() -> None:
    texts = {"The tower": "a b a b c", "In its city": "a a a a a", "Big Ben is in": "a b c d e"}
    backend = SetAnswers({}, texts)
    sums = measured(backend, [TOWER, BARE], "fluency", decoding=("teacher_forcing", "greedy"))
    wanted = entropy("a b a b c") / 2 + entropy("a b c d e")
    assert sums == {(name, 3): ProbeSum(pytest.approx(wanted), None, 2, 3) for name in ("fluency", "fluency_greedy")}
    assert [(each.top_k, each.num_tokens) for each in backend.generations] == [(5, 100), (1, 100)]


def test_each_decoding_has_rows_of_its_own() -> None:
    backend = SetAnswers({}, {})
    own = [Answer((0, 0, 0), (1, 2, 3), is_target=False)]
    sums = measured(backend, [BARE], "edit_success", "locality", reference=own, decoding=("greedy",))
    assert sorted(sums) == [("edit_success_greedy", 3), ("locality_greedy", 3)]
    assert set(backend.decodings) == {"greedy"}
    both = measured(backend, [BARE], "edit_success", decoding=("teacher_forcing", "greedy"))
    assert sorted(both) == [("edit_success", 3), ("edit_success_greedy", 3)]


def test_no_edits_and_other_metrics_give_no_sums() -> None:
    assert measured(SetAnswers({}, {}), [], "portability", "fluency") == {}
    assert measured(SetAnswers({}, {}), [BARE], "portability") == {}


def test_the_fields_of_an_edit_in_which_questions_stand() -> None:
    portability, locality = registry.get("portability"), registry.get("locality")
    assert (portability.reads(TOWER), portability.is_rare, locality.is_rare) == (("portability",), True, True)
    assert (locality.reads(TOWER), locality.reads(BARE)) == (("locality",), ("neighbors",))


@pytest.mark.parametrize("decoding", ["teacher_forcing", "greedy"])
def test_on_a_model_it_is_easyedits_loop(decoding) -> None:
    """Question by question, the whole model before every token, and the model's own answers before the edit."""
    backend = LanguageBackend(pico_model("gpt2"), MemitSpec(layers=(0, 1)), seed=1)
    # Answers that the model is inclined to give, so that shares are neither all nor nothing.
    edits = [_inclined(backend.model, TOWER), _inclined(backend.model, BARE)]
    probes = [probe for edit in edits for probe in locality_probes(edit)]
    own, naive_own = backend.answer(probes, decoding), answer_probes_naively(backend.model, probes, decoding)
    noise = np.random.default_rng(1)
    backend.load_weights(
        {n: w + 0.1 * noise.standard_normal(w.shape).astype("f4") for n, w in backend.base_weights().items()}
    )
    found = measured(backend, edits, "edit_success", "portability", "locality", reference=own, decoding=(decoding,))
    suffix = "_greedy" if decoding == "greedy" else ""
    expected = _naively(backend.model, edits, naive_own, decoding)
    assert {name for name, _ in found} == {name + suffix for name in expected}
    for name, shares in expected.items():
        assert found[name + suffix, 3].value == pytest.approx(sum(shares)), name
        assert found[name + suffix, 3].num_edits == len(shares)
    assert any(0 < share < 1 for shares in expected.values() for share in shares)


def _inclined(model, edit: Edit) -> Edit:
    def words(prompt):
        return write_naively(model, prompt, 2).strip() + " and Rome"

    return replace(
        edit,
        target_new=words(edit.text),
        portability=tuple(replace(each, answers=(words(each.prompt),)) for each in edit.portability),
        locality=tuple(replace(each, target=words(each.prompt)) for each in edit.locality),
    )


def _naively(model, edits, own, decoding):
    """Metric → the share of each edit that has questions for it."""

    def share(said, wanted):
        return np.mean([one == other for one, other in zip(said, wanted, strict=True)])

    def right(prompt, target):
        (answer,) = answer_probes_naively(model, [Probe(prompt, target)], decoding)
        return share(answer.said, answer.wanted)

    shares = {"edit_success": [right(edit.text, edit.target_new) for edit in edits]}
    tower = edits[0]
    alias, *reasoning = [right(each.prompt, each.answers[0]) for each in tower.portability]
    shares["portability_alias"], shares["portability_reasoning"] = [alias], [np.mean(reasoning)]
    shares["portability"] = [np.mean([alias, np.mean(reasoning)])]
    now = answer_probes_naively(model, [probe for edit in edits for probe in locality_probes(edit)], decoding)
    kept = [share(one.said, other.said) for one, other in zip(now, own, strict=True)]
    shares["locality"] = [np.mean([np.mean(kept[:2]), kept[2]]), kept[3]]
    return shares
