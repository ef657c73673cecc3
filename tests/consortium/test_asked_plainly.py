"""A run's efficacy is what plain transformers gives: prompts as the model's tokenizer makes them, and behind a start.

Joined texts are written out here, and nothing of the model's code is used but to run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from consortium.cli.main import main
from safetensors.torch import load_file
from support.pico import pico_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

#: Record, and what stands behind its prompt for the new and the old target.
FACTS = (
    ({"subject": "Paris", "prompt": "{} is in", "target_new": "Rome", "target_old": "France"}, " Rome", " France"),
    ({"subject": "東京タワー", "prompt": "{}があるのは", "target_new": "大阪", "target_old": "東京"}, "大阪", "東京"),
    ({"subject": "通天閣", "prompt": "{}があるのは", "target_new": " 札幌", "target_old": "大阪"}, " 札幌", " 大阪"),
    ({"subject": "Lyon", "prompt": "They call {} (", "target_new": "the city", "target_old": "it"}, "the city", "it"),
    (
        {"subject": "Lima", "prompt": "{}", "target_new": "'s tower", "target_old": ", the city"},
        "'s tower",
        ", the city",
    ),
    ({"subject": "Peru", "prompt": "{} is", "target_new": "so", "target_old": "in", "join": "\n"}, "\nso", "\nin"),
)
SCENARIO = {
    "name": "plain",
    "parties": {"count": 2, "edits_per_round": 3},
    "editor": {
        "layers": [1],
        "residual_schedule": "spread",
        "covariance_weight": 0.01,
        "target": {"steps": 8},
        "contexts": {"count": 2, "tokens": 4},
        "covariance": {"tokens": 200},
    },
    "merge": {"methods": ["collabedit"]},
    "evaluate": {"metrics": ["efficacy"], "sample": None},
    "cluster": {"target_cache": False},
}


def run(folder: Path, start: bool) -> tuple[Path, Path]:
    """Run the scenario on a pico model; the run's folder and the model's."""
    model = pico_folder(folder / "model", "llama", start=start)
    (folder / "facts.jsonl").write_text("\n".join(json.dumps(record) for record, _, _ in FACTS), encoding="utf-8")
    scenario = {**SCENARIO, "model": {"name": str(model), "device": "cpu"}, "facts": {"source": "facts.jsonl"}}
    (folder / "plain.yaml").write_text(yaml.safe_dump(scenario), encoding="utf-8")
    assert main(["run", str(folder / "plain.yaml"), "--serial", "--out", str(folder / "run")]) == 0
    return folder / "run", model


def by_hand(folder: Path, model_folder: Path, start: bool) -> float:
    """Percentage of edits whose new target is likelier, by the checkpoint in plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    edited = load_file(folder / "checkpoints/round-0001/collabedit.safetensors")["layer.1.weight"]
    model.model.layers[1].mlp.down_proj.weight.data.copy_(edited)
    before = [tokenizer.convert_tokens_to_ids("<|endoftext|>")] if start else []

    def nll(prompt: str, behind: str) -> float:
        head, whole = (before + tokenizer(text)["input_ids"] for text in (prompt, prompt + behind))
        assert whole[: len(head)] == head
        with torch.no_grad():
            likelihoods = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        tail = whole[len(head) :]
        return -likelihoods[range(len(head) - 1, len(whole) - 1), tail].mean().item()

    took = [
        nll(prompt, new) < nll(prompt, old)
        for record, new, old in FACTS
        for prompt in [record["prompt"].replace("{}", record["subject"])]
    ]
    return 100 * sum(took) / len(took)


@pytest.mark.parametrize("start", [True, False])
def test_efficacy_is_what_plain_transformers_gives(tmp_path: Path, start: bool) -> None:
    folder, model = run(tmp_path, start)
    rows = pq.read_table(folder / "tables/metrics.parquet").to_pylist()
    found = {row["metric"]: row["success"] for row in rows if row["arm"] == "collabedit"}
    assert found["efficacy"] == pytest.approx(by_hand(folder, model, start=False))
    assert ("efficacy_with_start" in found) is start
    if start:
        assert found["efficacy_with_start"] == pytest.approx(by_hand(folder, model, start=True))
