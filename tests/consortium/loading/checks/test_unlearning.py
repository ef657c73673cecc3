"""What cannot be removed is refused before anything starts."""

import json

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading.check import check_scenario
from consortium.loading.load import load_scenario

BASE = {"reference": "initial", "exchange": "round"}
LEAVE = [{"round": 2, "parties": [3]}]


@pytest.fixture
def check(tmp_path):
    def checked(**sections):
        path = tmp_path / "s.yaml"
        path.write_text(json.dumps({"name": "a", "stream": {"rounds": 3}} | sections))
        check_scenario(load_scenario(str(path)))

    return checked


def removed(**keys):
    return {"merge": BASE, "unlearn": keys}


@pytest.mark.parametrize(
    "sections",
    [
        {"merge": BASE},
        {"merge": {"methods": ["ties", {"name": "collabedit", **BASE}, {"name": "collabedit", "label": "merged"}]}},
        {"merge": {"methods": ["collabedit", {"name": "ties", "reference": "current"}], **BASE}},
        removed(parties=LEAVE),
        removed(parties=[{"round": 1, "parties": [0]}, {"round": 3, "parties": [1, 2]}]),
        removed(
            edits=[{"round": 2, "parties": [0], "of_round": 1, "share": 0.5}], parties=[{"round": 3, "parties": [0]}]
        ),
    ],
)
def test_what_can_run_is_accepted(check, sections):
    check(**sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"merge": {"reference": "initial"}},
            "merge.methods.0 .*'global' has reference: initial with exchange: layer(.|\n)*set merge.exchange",
        ),
        ({"merge": {**BASE, "history_weight": 0.5}}, "'collabedit' has reference: initial with history_weight 0.5"),
        (
            {"merge": {**BASE, "methods": ["global"]}, "editor": {"method": "rome"}},
            "'global' has reference: initial with the editor rome(.|\n)*memit, alphaedit, emmet",
        ),
        (
            {
                "stream": {"rounds": 3},
                "unlearn": {"parties": LEAVE},
                "merge": BASE,
                "overlap": {"duplicates": "count_once"},
            },
            "edits are removed, and doubles or contradictions of a round are resolved",
        ),
        (
            {"stream": {"rounds": 3, "sharing_group_size": 3}, "unlearn": {"parties": LEAVE}, "merge": BASE},
            "stream.sharing_group_size .*3 in a row share",
        ),
        (
            {"merge": BASE, "overlap": {"skip_known": "residual"}},
            "'collabedit' has reference: initial with overlap.skip_known",
        ),
        (
            {"merge": {"methods": [{"name": "collabedit", "skip_known": "residual", **BASE}]}},
            "initial with skip_known: residual",
        ),
        (
            {"merge": {**BASE, "methods": ["collabedit", "simple_average"]}},
            "merge.methods.1 .*simple_average makes its update from local ones(.|\n)*global, collabedit",
        ),
        ({"merge": {"methods": [{"name": "ties", **BASE}]}}, "ties makes its update from local ones"),
        (
            {"stream": {"rounds": 3}, "unlearn": {"parties": LEAVE}},
            "unlearn.parties .*arm 'global' has reference: current(.|\n)*subtracted",
        ),
        (
            {
                "stream": {"rounds": 3},
                "unlearn": {"edits": LEAVE},
                "merge": {"methods": [{"name": "collabedit", **BASE}, "ties"]},
            },
            "unlearn.edits .*arm 'ties' has reference: current",
        ),
        (removed(parties=[{"round": 4, "parties": [0]}]), r"unlearn.parties.0.round .*found 4(.|\n)*up to 3"),
        (removed(parties=[{"round": 2, "parties": [4]}]), r"unlearn.parties.0.parties .*found 4(.|\n)*from 0 to 3"),
        (removed(parties=[{"round": 2, "parties": [1, 1]}]), r"found \[1, 1\](.|\n)*each party once"),
        (removed(parties=[*LEAVE, {"round": 3, "parties": [3]}]), "party 3 leaves 2 times"),
        (removed(parties=[{"round": 2, "parties": [0, 1]}, {"round": 3, "parties": [2, 3]}]), "all 4 parties leave"),
        (
            removed(parties=[{"round": 2, "parties": []}]),
            r"unlearn.parties.0.parties .*found \[\](.|\n)*at least 1 item",
        ),
        (removed(edits=[{"round": 1, "parties": [0]}]), r"unlearn.edits.0.round .*found 1(.|\n)*at least 2"),
        (removed(edits=[{"round": 4, "parties": [0]}]), r"unlearn.edits.0.round .*found 4"),
        (removed(edits=[{"round": 2, "parties": [9]}]), r"unlearn.edits.0.parties .*found 9"),
        (removed(edits=[{"round": 2, "parties": [0], "share": 0}]), r"unlearn.edits.0.share .*found 0"),
        (removed(edits=[{"round": 2, "parties": [0], "of_round": 2}]), r"of_round .*found 2(.|\n)*a round before 2"),
        (removed(edits=[{"round": 3, "parties": [3]}], parties=LEAVE), "party 3 has left in round 2"),
        ({"merge": {"reference": "first"}}, 'merge.reference .*found "first"(.|\n)*one of current, initial'),
    ],
)
def test_what_cannot_run_is_refused(check, sections, message):
    with pytest.raises(ScenarioError, match=message):
        check(**sections)
