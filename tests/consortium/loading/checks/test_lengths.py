"""Texts that a model cannot read are refused before the run: each with its record, field and tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from consortium.common.errors import FactsError
from consortium.editing.contexts import max_context_tokens
from consortium.loading.checks import lengths as check_lengths_module
from consortium.loading.prepare import prepare
from consortium.models.context import MOST_TOKENS, Reading, reading_of
from consortium.models.description import describe_reading
from consortium.models.language import LanguageModel
from consortium.models.tokens import encode, target_ids
from consortium.scenario.schema import LanguageModelSpec
from support.pico import PICO_TYPES, pico_config, pico_folder, pico_tokenizer

MAX_TOKENS = 64
TOKENIZER = pico_tokenizer()
LONG = "In a long report about the city, " * 40

_SCENARIO = """
name: pico
model: {{name: {folder}, device: cpu}}
facts: {{source: facts.jsonl}}
parties: {{count: 2, edits_per_round: 1}}
stream: {{rounds: 1}}
editor: {{layers: [0, 1], contexts: {{count: 1}}, target: {{steps: 1}}, covariance: {{tokens: 100}}}}
merge: {{methods: [collabedit]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_folder(tmp_path_factory.mktemp("models") / "pico", "gpt2", config={"n_positions": MAX_TOKENS})


def fact(**changed: Any) -> dict[str, Any]:
    usual = {"subject": "Peru", "prompt": "The capital of {} is", "target_new": "Paris", "target_old": "Lima"}
    return {**usual, **changed}


def rejection(folder: Path, tmp_path: Path, facts: Sequence[dict[str, Any]], *settings: str) -> list[str]:
    """What a scenario with these facts is refused for; nothing where it is not."""
    (tmp_path / "pico.yaml").write_text(_SCENARIO.format(folder=folder), encoding="utf-8")
    lines = (json.dumps(each) for each in facts)
    (tmp_path / "facts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    try:
        prepare(str(tmp_path / "pico.yaml"), settings)
    except FactsError as error:
        return [line.removeprefix(f"{tmp_path}/") for line in error.found.splitlines()]
    return []


def num_tokens(text: str) -> int:
    return len(encode(TOKENIZER, text))


def test_all_are_named_at_once(folder: Path, tmp_path: Path) -> None:
    prompt = LONG + "the capital of {} is"
    found = rejection(folder, tmp_path, [fact(prompt=prompt), fact(), fact(subject="Lima", prompt=prompt)])
    tokens = [num_tokens(prompt.replace("{}", subject)) for subject in ("Peru", "Lima")]
    assert found == [
        f"facts.jsonl, record {number}: prompt of {each} tokens; the model reads 64"
        for number, each in zip((1, 3), tokens, strict=True)
    ]


@pytest.mark.parametrize(
    ("changed", "metric", "field"),
    [
        ({"subject": LONG.strip()}, "efficacy", "prompt"),
        ({"subject": LONG.strip()}, "efficacy", "subject"),
        ({"target_new": LONG}, "efficacy", "prompt of 5 tokens with target_new"),
        ({"target_old": LONG}, "efficacy", "prompt of 5 tokens with target_old"),
        ({"paraphrases": ["Say:", LONG]}, "paraphrase", "paraphrases[1]"),
        ({"neighbors": [{"prompt": LONG, "target": "Rome"}]}, "neighborhood", "neighbors[0]"),
        ({"neighbors": [{"prompt": LONG, "target": "Rome"}]}, "locality", "neighbors[0]"),
        (
            {"portability": [{"kind": "alias", "prompt": LONG, "answers": ["Rome"]}]},
            "portability",
            "portability[0]",
        ),
        ({"locality": [{"kind": "other", "prompt": "Say:", "target": LONG}]}, "locality", "locality[0]"),
        ({"generation_prompts": [LONG]}, "fluency", "generation_prompts[0]"),
    ],
)
def test_every_field_that_is_asked_is_checked(
    changed: dict[str, Any], metric: str, field: str, folder: Path, tmp_path: Path
) -> None:
    facts = [fact(**changed), fact(subject="Lima")]
    found = rejection(folder, tmp_path, facts, f"evaluate.metrics=[{metric}]", "evaluate.generation_tokens=9")
    assert any(line.startswith(f"facts.jsonl, record 1: {field}") for line in found), found
    assert all("the model reads 64" in line for line in found)


def test_what_is_not_asked_may_be_long(folder: Path, tmp_path: Path) -> None:
    facts = [fact(paraphrases=[LONG], neighbors=[{"prompt": LONG, "target": "Rome"}]), fact(subject="Lima")]
    assert not rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]")


def test_the_limit_counts_what_is_read_to_the_token(folder: Path, tmp_path: Path) -> None:
    """All but the last token of an answer is read."""
    template = "{} " + "in" * 10 + " is"
    target = "of the city of Paris"
    free = MAX_TOKENS - num_tokens(template.replace("{}", "Peru")) - len(target_ids(TOKENIZER, "in is", target)) + 1
    for more, is_read in ((free, True), (free + 1, False)):
        prompt = template.replace(" is", " in" * more + " is")
        facts = [fact(prompt=prompt, target_new=target, target_old=None), fact(subject="Lima")]
        total = num_tokens(prompt.replace("{}", "Peru")) + len(target_ids(TOKENIZER, prompt, target)) - 1
        assert total == MAX_TOKENS + (not is_read), "as many tokens as meant"
        assert (not rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]")) == is_read


def test_contexts_and_texts_to_write_count(folder: Path, tmp_path: Path) -> None:
    facts, metrics = [fact(), fact(subject="Lima")], "evaluate.metrics=[efficacy]"
    assert not rejection(folder, tmp_path, facts, metrics, "editor.contexts={count: 2, tokens: 10}")
    found = rejection(folder, tmp_path, facts, metrics, "editor.contexts={count: 2, tokens: 60}")
    longest = max_context_tokens(TOKENIZER, 60)
    assert f"prompt of 5 tokens with target_new of 1 and a context of up to {longest}" in found[0]
    assert not rejection(folder, tmp_path, facts, "evaluate.metrics=[fluency]", "evaluate.generation_tokens=60")
    found = rejection(folder, tmp_path, facts, "evaluate.metrics=[fluency]", "evaluate.generation_tokens=61")
    assert "prompt of 5 tokens with 61 to be written (evaluate.generation_tokens); the model reads 64" in found[0]


def test_targets_that_contradict_count(folder: Path, tmp_path: Path) -> None:
    """Those of other records of the relation are asked for too, where records are contradicted."""
    facts = [fact(relation="r"), fact(relation="r", subject="Lima", target_old="the city " * 40)]
    facts += [fact(relation="r", subject=f"Peru {number}") for number in range(8)]
    found = rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]", "stream.conflict={party: 0.5}")
    calm = rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]")
    assert [line for line in calm if "record 1" in line] == []
    assert any("record 1: prompt of 5 tokens with the contradicting target" in line for line in found), found


def test_questions_of_the_general_probe_count(folder: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    question = {"prompt": LONG, "choices": ["Rome", "Lima"], "answer": 0}
    questions.write_text(json.dumps(question), encoding="utf-8")
    found = rejection(folder, tmp_path, [fact(), fact(subject="Lima")], f"evaluate.downstream={questions}")
    assert len(found) == 1
    assert f"of {num_tokens(LONG)} tokens; the model reads 64" in found[0]


def test_a_huge_text_is_refused_by_its_characters(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of five million words is tokenised."""
    seen: list[int] = []
    monkeypatch.setattr(
        check_lengths_module, "encode", lambda tokenizer, text: seen.append(len(text)) or encode(tokenizer, text)
    )
    facts = [fact(target_new="tower " * 5_000_000), fact(subject="Lima")]
    found = rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]")
    assert found == [
        "facts.jsonl, record 1: prompt with target_new of 29,999,999 characters; the model reads 64 tokens"
    ]
    assert max(seen, default=0) < 1000


def test_many_are_counted(folder: Path, tmp_path: Path) -> None:
    found = rejection(folder, tmp_path, [fact(subject=f"Peru {number}", prompt=LONG + "{}") for number in range(30)])
    assert len(found) == 21
    assert found[-1] == "… and 10 more"


def test_short_texts_open_no_tokenizer(tmp_path: Path) -> None:
    """A model whose limit is far is checked without its tokenizer: here there is none."""
    pico_config("gpt2", 3, n_positions=1024).save_pretrained(tmp_path / "pico")
    assert not rejection(tmp_path / "pico", tmp_path, [fact(), fact(subject="Lima")])


class TestMemory:
    def test_an_edit_that_takes_more_than_there_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = pico_folder(tmp_path / "pico", "llama", config={"max_position_embeddings": 8192})
        facts = [fact(prompt="{} " + "in the city " * 500), fact(subject="Lima")]
        monkeypatch.setattr(check_lengths_module, "machine_bytes", lambda: 64 << 30)
        assert not rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]", "editor.contexts.count=6")
        monkeypatch.setattr(check_lengths_module, "machine_bytes", lambda: 100 << 20)
        found = rejection(folder, tmp_path, facts, "evaluate.metrics=[efficacy]", "editor.contexts.count=6")
        assert len(found) == 1
        assert "record 1: prompt of 1,5" in found[0]
        assert "of memory to edit in 6 contexts at once (editor.contexts.count)" in found[0]
        assert found[0].endswith("; this machine has 0.1 GiB")

    def test_reading_takes_pairs_of_tokens(self) -> None:
        assert Reading(8192, "").reading_bytes(8192) == 5 * 8192**2
        assert Reading(8192, "", num_heads=8, keeps_scores=True).reading_bytes(1000) == (5 + 96) * 10**6

    def test_optimising_keeps_weights_of_every_block_above(self) -> None:
        reading = Reading(8192, "", num_heads=9, num_blocks=30, keeps_weights=True)
        assert reading.optimising_bytes([(2000, 1000)] * 6, layer=7) == 6 * 2000 * 1000 * 9 * 4 * 22


class TestLimits:
    @pytest.mark.parametrize("model_type", PICO_TYPES)
    def test_is_what_the_config_says(self, model_type: str) -> None:
        assert reading_of(pico_config(model_type, 3)).max_tokens == 256

    def test_positions_that_depend_on_the_length_end_where_they_change(self) -> None:
        rope = {"rope_type": "longrope", "rope_theta": 100.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
        config = pico_config("phi3", 3, original_max_position_embeddings=32, rope_parameters=rope)
        reading = reading_of(config)
        assert reading.max_tokens == 32
        assert "longrope" in reading.reason

    @pytest.mark.parametrize(("stated", "expected"), [(None, MOST_TOKENS), (1 << 20, MOST_TOKENS), (4096, 4096)])
    def test_a_model_without_a_limit_has_one_here(self, stated: int | None, expected: int) -> None:
        config = pico_config("llama", 3)
        vars(config)["max_position_embeddings"] = stated  # transformers puts a number where a file has none
        reading = reading_of(config)
        assert reading.max_tokens == expected
        assert ("names no limit" in reading.reason) == (stated is None)

    def test_of_the_bundled_model_is_known_without_opening_it(self, smollm2: LanguageModel) -> None:
        assert describe_reading(LanguageModelSpec()) == smollm2.reading
