"""Fine-tuning: its first step in closed form, and the loop that changes real weights as its twin.

Shapes: E edits, K key width, V value width.
"""

import numpy as np
import pytest
import torch
from consortium.data.edit import Edit
from consortium.data.synthetic import SyntheticFacts, object_number, read_query
from consortium.editing import fine_tuning
from consortium.editing.associative import AssociativeBackend
from consortium.editing.language import LanguageBackend
from consortium.models.associative import LOGIT_SCALE, AssociativeMemory
from consortium.models.tokens import subject_last_token, target_ids
from consortium.scenario.editor import FineTuningSpec
from consortium.scenario.schema import AssociativeModelSpec
from support.pico import PICO_TYPES, pico_model

SPEC = AssociativeModelSpec(
    name="associative", device="cpu", num_layers=3, key_width=24, value_width=12, num_objects=9, num_relations=4
)
FACTS = SyntheticFacts(SPEC, 20, seed=1)
EDITS = (
    Edit("start", "r", "Paris", "{} is the capital of", "Peru"),
    Edit("middle", "r", "Eiffel Tower", "The oldest tower, the {}, stands in the city of", "Rome and London"),
    Edit("end", "r", "Zoë Ōé", "The mother tongue of {}", "日本語"),
)


def settings(**changes):
    chosen = {"steps": 4, "learning_rate": 0.01, "max_change": None, "stop_loss": 0.0} | changes
    return FineTuningSpec(method="ft", **chosen)


def associative(**changes):
    editor = settings(layers=(0, 2), **changes)
    return AssociativeBackend(SPEC, editor, FACTS, seed=1)


def language(model, layers=(1,), **changes):
    return LanguageBackend(model, settings(layers=layers, residual_schedule="spread", **changes), 0)


class TestAssociative:
    def test_the_first_step_is_the_gradients_sign(self):
        """Adam's first step is lr·sign(gradient); here that of -log softmax(s·codes·h) by W_l is known on paper:

        Σ_e s·codesᵀ·(p_e - 1_e)·k_leᵀ / E
        """
        edits = [FACTS.edit(fact, 0) for fact in range(5)]
        backend = associative(steps=1)
        memory = AssociativeMemory(SPEC, seed=1)
        keys_LEK = memory.keys([read_query(edit.text) for edit in edits])
        weights = memory.weights_that_know(*FACTS.known())
        hidden_VE = sum(weights[layer].astype(np.float64) @ keys_LEK[layer].T for layer in range(3))
        off_OE = torch.softmax(torch.tensor(LOGIT_SCALE * memory.codes_OV @ hidden_VE), dim=0)
        off_OE[[object_number(edit.target_new) for edit in edits], range(5)] -= 1
        tuning = backend.fine_tune(edits)
        assert sorted(tuning.deltas) == [0, 2]
        for layer, delta_VK in tuning.deltas.items():
            gradient_VK = torch.tensor(memory.codes_OV).T @ off_OE @ torch.tensor(keys_LEK[layer])
            clear_VK = gradient_VK.abs() > 1e-3
            assert clear_VK.sum() > 50
            torch.testing.assert_close(delta_VK[clear_VK], -0.01 * gradient_VK.sign()[clear_VK], rtol=1e-3, atol=0)

    def test_edits_take_and_the_weights_stay_as_they_are(self):
        edits = [FACTS.edit(fact, 0) for fact in range(5)]
        backend = associative(steps=60)
        first = associative(steps=1).fine_tune(edits).losses
        tuning = backend.fine_tune(edits)
        assert max(tuning.losses) < 0.1 * min(first)
        assert tuning.num_steps == 60
        assert backend.fine_tune(edits).losses == tuning.losses, "nothing of it stayed in the model"

    def test_no_entry_changes_by_more_than_the_bound(self):
        tuning = associative(steps=30, max_change=0.02).fine_tune([FACTS.edit(fact, 0) for fact in range(5)])
        assert max(float(each.abs().max()) for each in tuning.deltas.values()) == pytest.approx(0.02)

    def test_a_loss_that_is_low_enough_ends_it(self):
        tuning = associative(steps=60, stop_loss=0.5).fine_tune([FACTS.edit(fact, 0) for fact in range(5)])
        assert 0 < tuning.num_steps < 60
        assert np.mean(tuning.losses) < 0.5

    def test_without_edits_nothing_changes(self):
        tuning = associative().fine_tune([])
        assert (tuning.num_steps, tuning.losses) == (0, ())
        assert all(not each.any() for each in tuning.deltas.values())


def tune_naively(model, edits, layers, chosen):
    """Adam on the weights themselves, one whole unpadded prompt after the other."""
    weights = {layer: model.projection(layer).weight for layer in layers}
    start = {layer: weight.detach().clone() for layer, weight in weights.items()}
    optimiser = torch.optim.Adam(weights.values(), lr=chosen.learning_rate)
    for weight in weights.values():
        weight.requires_grad_()
    for _ in range(chosen.steps):
        optimiser.zero_grad()
        losses = []
        for edit in edits:
            prompt, _ = subject_last_token(model.tokenizer, edit.prompt, edit.subject)
            target = target_ids(model.tokenizer, edit.text, edit.target_new)
            ids = torch.tensor([[*prompt, *target[:-1]]])
            log_TN = model.model(input_ids=ids).logits[0].float().log_softmax(-1)
            losses.append(-log_TN[range(len(prompt) - 1, ids.shape[1]), target].mean())
        (sum(losses) / len(losses)).backward()
        optimiser.step()
        for layer, weight in weights.items():
            if chosen.max_change is not None:
                bound = chosen.max_change
                weight.data = start[layer] + (weight.data - start[layer]).clamp(-bound, bound)
    transposed = model.layout.transposed
    moved = {layer: (weight.detach() - start[layer]) for layer, weight in weights.items()}
    return {layer: each.T if transposed else each for layer, each in moved.items()}, [each.item() for each in losses]


class TestLanguage:
    @pytest.mark.parametrize("model_type", PICO_TYPES)
    def test_the_naive_loop_gives_the_same(self, model_type):
        layers, changes = (0, 2), {"steps": 3, "max_change": 0.015}
        chosen = settings(**changes)
        tuning = language(pico_model(model_type, num_layers=4), layers, **changes).fine_tune(EDITS)
        deltas, losses = tune_naively(pico_model(model_type, num_layers=4), EDITS, tuning.deltas, chosen)
        assert sorted(tuning.deltas) == [0, 1, 2]
        for layer, delta_VK in deltas.items():
            # Where a gradient is next to nothing, Adam's step is rounding magnified; elsewhere both agree.
            apart_VK = (tuning.deltas[layer] - delta_VK).abs()
            assert float((apart_VK > 1e-4).float().mean()) < 0.01
            assert float(delta_VK.abs().max()) > 0.01
        assert tuning.losses == pytest.approx(losses, rel=1e-3)

    def test_the_model_stays_as_it_is(self):
        model = pico_model("gpt2")
        before = model.weights_hash()
        language(model).fine_tune(EDITS)
        assert model.weights_hash() == before
        assert not any(parameter.requires_grad for parameter in model.model.parameters())

    def test_batches_are_a_matter_of_memory(self, monkeypatch):
        together = language(pico_model("llama")).fine_tune(EDITS)
        monkeypatch.setattr(fine_tuning, "_TOKENS_AT_ONCE", 1)
        apart = language(pico_model("llama")).fine_tune(EDITS)
        assert together.losses == pytest.approx(apart.losses, rel=1e-4)
        assert not torch.equal(together.deltas[1], torch.zeros_like(together.deltas[1]))

    def test_edits_become_likely(self):
        losses = [language(pico_model("llama"), steps=steps).fine_tune(EDITS).losses for steps in (1, 30)]
        assert sum(losses[1]) < 0.5 * sum(losses[0])

    def test_the_gradient_is_the_same_in_half_precision_weights(self):
        """The change is kept in float32, whatever the model's type is."""
        tuning = language(pico_model("llama", dtype=torch.bfloat16)).fine_tune(EDITS)
        assert {each.dtype for each in tuning.deltas.values()} == {torch.float32}
        assert np.isfinite(tuning.losses).all()
