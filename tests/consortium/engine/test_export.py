"""An edited model leaves: opened by plain transformers, it is the run's model."""

import pyarrow.parquet as pq
import pytest
import torch
from consortium.cli.main import main
from safetensors.torch import load_file, save_file
from support.pico import pico_folder
from support.scenarios import associative_scenario, pico_scenario, run_serially
from transformers import AutoModelForCausalLM, AutoTokenizer

#: One architecture that keeps the weight as it is, one that keeps it transposed, one within a model of pictures.
KINDS = ["llama", "gpt2", "gemma3"]


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = pico_folder(folder / "model", request.param, num_layers=4)
    run_serially(pico_scenario(model, stream={"rounds": 3}, evaluate={"sample": None}), folder / "run")
    return folder / "run"


def test_the_exported_model_has_the_runs_weights_and_all_others_unchanged(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "edited"), "--arm", "collabedit"]) == 0
    assert "as the arm collabedit edited it in 3 rounds" in capsys.readouterr().out
    before = AutoModelForCausalLM.from_pretrained(run.parent / "model").state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "edited").state_dict()
    checkpoint = load_file(run / "checkpoints/round-0003/collabedit.safetensors")
    edited = {int(name.split(".")[1]): weight for name, weight in checkpoint.items() if name.endswith(".weight")}
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == len(edited)
    for name, layer in zip(changed, sorted(edited), strict=True):
        assert f".{layer}." in name
        assert torch.equal(after[name], edited[layer]) or torch.equal(after[name].T, edited[layer])


def test_the_exported_model_answers_as_the_run_counted(run, tmp_path):
    """The efficacy of all edits of the last round, asked anew of the folder by plain transformers."""
    assert main(["export", str(run), str(tmp_path / "edited"), "--arm", "global", "--round", "3"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "edited")

    def nll(prompt, target):
        start, whole = (tokenizer(text, return_tensors="pt").input_ids for text in (prompt, f"{prompt} {target}"))
        with torch.no_grad():
            likelihoods = model(whole).logits[0].log_softmax(-1)
        places = range(start.shape[1], whole.shape[1])
        return -sum(float(likelihoods[place - 1, whole[0, place]]) for place in places) / len(places)

    edits = [row for row in pq.read_table(run / "tables/edits.parquet").to_pylist() if row["round"] == 3]
    prompts = [(row["prompt"].replace("{}", row["subject"]), row) for row in edits]
    found = [nll(prompt, row["target_new"]) < nll(prompt, row["target_old"]) for prompt, row in prompts]
    metrics = pq.read_table(run / "tables/metrics.parquet").to_pylist()
    [counted] = [
        row
        for row in metrics
        if (row["arm"], row["metric"], row["round"], row["of_round"]) == ("global", "efficacy", 3, 3)
    ]
    assert (counted["num_edits"], counted["success"]) == (len(found), pytest.approx(100 * sum(found) / len(found)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arm", "ties"], "no arm 'ties'"),
        (["--arm", "collabedit", "--round", "1"], "no checkpoint of round 1 is kept"),
        (["--arm", "collabedit", "--round", "99"], "no checkpoint of round 99 is kept"),
        (["--arm", "collabedit", "--round", "-1"], "no checkpoint of round -1 is kept"),
    ],
)
def test_what_the_run_does_not_have_is_refused(run, tmp_path, capsys, arguments, message):
    assert main(["export", str(run), str(tmp_path / "edited"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "edited").exists()


def test_a_refused_export_leaves_no_folder_and_takes_none_away(run, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    for folder in (tmp_path / "a/b/edited", mine):
        assert main(["export", str(run), str(folder), "--arm", "ties"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert main(["export", str(run), str(mine), "--arm", "global"]) == 0
    assert (mine / "model.safetensors").exists()


def test_another_model_under_the_same_name_is_refused(run, tmp_path, capsys):
    saved = (run.parent / "model/model.safetensors").read_bytes()
    try:
        weights = load_file(run.parent / "model/model.safetensors")
        name = next(name for name in sorted(weights) if name.endswith(("norm.weight", "ln_f.weight")))
        save_file({**weights, name: weights[name] * 1.01}, run.parent / "model/model.safetensors", {"format": "pt"})
        assert main(["export", str(run), str(tmp_path / "edited"), "--arm", "global"]) == 2
    finally:
        (run.parent / "model/model.safetensors").write_bytes(saved)
    assert "model weights of" in capsys.readouterr().err
    assert not (tmp_path / "edited").exists()


def test_nothing_is_overwritten(run, tmp_path, capsys):
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "notes.txt").write_text("mine")
    assert main(["export", str(run), str(tmp_path / "edited"), "--arm", "global"]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["edited", "notes.txt"]


def test_an_associative_model_is_refused(tmp_path, capsys):
    run_serially(associative_scenario(), tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "edited"), "--arm", "global"]) == 2
    assert "associative" in capsys.readouterr().err
