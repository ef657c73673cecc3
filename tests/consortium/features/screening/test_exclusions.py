"""Whole runs with parties that are refused: bit for bit what they are without what these parties asked for."""

import pytest
from consortium.data import attackers
from consortium.engine import audit, serial
from consortium.engine.serial import _Run
from consortium.features.attacks.hook import Attacks
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.report.page import run_of
from consortium.report.sections.screening import section
from consortium.scenario.unlearning import PartyRemovalSpec, UnlearnSpec
from support.pico import pico_folder
from support.report import texts
from support.scenarios import ALL_METHODS, associative_scenario, difference, pico_scenario, run_serially
from support.tiers import one_quick

ALONE = {"overlap": 0, "conflict": 0, "repeat": 0}
PRIVATE = [name for name in ALL_METHODS if name != "global"]

pytestmark = pytest.mark.usefixtures("own_cache")


def without(scenario, parties):
    """The scenario in which these parties never take part, and nobody attacks."""
    unlearn = UnlearnSpec(parties=(PartyRemovalSpec(round=1, parties=tuple(parties)),))
    return scenario.model_copy(update={"unlearn": unlearn, "attacks": ()})


@pytest.mark.parametrize("kind", ["nan", "non_psd", "stale", "replay", "oversized"])
@pytest.mark.parametrize("exchange", one_quick(["layer", "round"]))
def test_a_refused_party_leaves_no_trace(kind, exchange, finished_run):
    scenario = associative_scenario(
        stream={"rounds": 2, **ALONE},
        merge={"methods": PRIVATE, "exchange": exchange},
        attacks=[{"kind": kind, "parties": [2, 5]}],
    )
    bad = finished_run(scenario)
    good = finished_run(without(scenario, [2, 5]))
    assert difference(bad.arm_states(), good.arm_states()) == []
    rows = [row for row in bad.table("parties").to_pylist() if row["rejected"]]
    assert {(row["party"], row["round"], row["num_edits"]) for row in rows} == {
        (2, 1, 0),
        (2, 2, 0),
        (5, 1, 0),
        (5, 2, 0),
    }
    rounds = bad.table("rounds").to_pylist()
    assert {(row["num_parties"], row["num_edits"], row["num_parties_rejected"]) for row in rounds} == {(5, 20, 2)}
    assert all(row["max_norm_ratio"] > 0 for row in rounds)


@pytest.mark.slow
def test_when_the_first_refusal_comes_at_a_later_layer(finished_run, tmp_path, monkeypatch):
    """What was merged at earlier layers together with the party is undone; it is refused at every layer on its own."""
    scenario = associative_scenario(
        stream={"rounds": 2, **ALONE}, merge={"methods": ALL_METHODS}, attacks=[{"kind": "nan", "parties": [3]}]
    )
    good = finished_run(without(scenario, [3]))
    made_of = Attacks._made_of
    last = max(scenario.editor.edited_layers)

    def late(worker, message, round_number, party):
        return made_of(worker, message, round_number, party if message.basis.layer == last else 0)

    monkeypatch.setattr(Attacks, "_made_of", late)
    begun = []
    monkeypatch.setattr(_Run, "_attempt", noting(_Run._attempt, begun))
    bad = run_serially(scenario, tmp_path / "bad")
    assert difference(bad.arm_states(), good.arm_states()) == []
    assert len(begun) == 2 * 2 * len(ALL_METHODS)
    found = [row for row in bad.table("events").to_pylist() if row["kind"] == "rejected"]
    assert [row["arm"] for row in found] == 2 * ALL_METHODS
    assert found[0]["detail"].startswith("party 3: not finite: ")


def noting(method, calls):
    def noted(self, *arguments):
        calls.append(arguments)
        return method(self, *arguments)

    return noted


@pytest.mark.parametrize(("exclusions", "out"), one_quick([(2, [1, 2]), ("round", [1]), ("run", [1, 2, 3, 4])]))
def test_exclusions_lasts_as_long_as_it_says(exclusions, out, finished_run):
    scenario = associative_scenario(
        stream={"rounds": 4, **ALONE},
        merge={"methods": ["collabedit"]},
        screening={"exclude_for": exclusions},
        attacks=[{"kind": "inf", "parties": [1], "rounds": [1, 1]}],
    )
    rows = finished_run(scenario).table("parties").to_pylist()
    found = {row["round"]: row["rejected"] for row in rows if row["rejected"]}
    assert found == {number: "not finite" if number == 1 else "excluded" for number in out}
    assert {row["party"] for row in rows if row["rejected"]} == {1}


def test_exclusions_outlives_an_interruption(finished_run, tmp_path, monkeypatch):
    scenario = associative_scenario(
        stream={"rounds": 3, **ALONE},
        merge={"methods": ["collabedit", "ties"]},
        screening={"exclude_for": 2},
        attacks=[{"kind": "shape", "parties": [6], "rounds": [1, 1]}],
    )
    whole = finished_run(scenario)
    facts = open_facts(scenario)
    commit = _Run._commit

    def interrupted(run, round_number):
        commit(run, round_number)
        if round_number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, RunDirectory.create(tmp_path / "run", scenario) as directory:
        patch.setattr(_Run, "_commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            serial.run_serial(scenario, directory, facts, lambda progress: None)
    with RunDirectory.open(tmp_path / "run") as directory:
        directory.lock()
        assert directory.arm_states()["ties"].rejected == ((1, 6),)
        serial.run_serial(scenario, directory, facts, lambda progress: None)
    resumed = RunDirectory.open(tmp_path / "run")
    assert difference(whole.arm_states(), resumed.arm_states()) == []
    assert resumed.table("parties").equals(whole.table("parties"))


def test_each_arm_has_a_door_of_its_own(finished_run):
    """With a bound between their sizes, one arm refuses what another admits."""
    scenario = associative_scenario(
        stream={"rounds": 1, **ALONE}, merge={"methods": ["collabedit", "task_arithmetic"]}, screening={"max_norm": 1e3}
    )
    rows = finished_run(scenario).table("rounds").to_pylist()
    norms = {row["arm"]: row["max_norm_ratio"] for row in rows}
    assert norms["collabedit"] != norms["task_arithmetic"]
    least, most = sorted(norms, key=norms.get)
    between = scenario.model_copy(
        update={"screening": scenario.screening.model_copy(update={"max_norm": sum(norms.values()) / 2})}
    )
    bound = finished_run(between)
    rejected = {row["arm"]: row["num_parties_rejected"] for row in bound.table("rounds").to_pylist()}
    assert rejected[least] == 0 < rejected[most]


def test_a_round_of_which_all_are_refused_changes_nothing(finished_run):
    scenario = associative_scenario(
        stream={"rounds": 1, **ALONE}, merge={"methods": ALL_METHODS}, screening={"max_norm": 1e-9}
    )
    run = finished_run(scenario)
    assert {row["update_norm"] for row in run.table("rounds").to_pylist()} == {0.0}


@pytest.mark.parametrize("method", one_quick(["memit", "ft", "alphaedit"]))
def test_with_other_editors(method, finished_run):
    merge = {"methods": ["task_arithmetic", "ties"], "exchange": "round"}
    scenario = associative_scenario(
        stream={"rounds": 2, **ALONE},
        editor={"method": method},
        merge=merge,
        attacks=[{"kind": "nan", "parties": [0]}],
    )
    bad = finished_run(scenario)
    good = finished_run(without(scenario, [0])) if method != "ft" else None
    assert {row["num_parties_rejected"] for row in bad.table("rounds").to_pylist()} == {1}
    if good is not None:
        assert difference(bad.arm_states(), good.arm_states()) == []


@pytest.mark.slow
def test_with_a_language_model_whose_targets_are_optimised_side_by_side(finished_run, tmp_path):
    """Party batches of two: without the party its neighbour's targets are optimised alone, and in other bits."""
    folder = pico_folder(tmp_path / "pico", "llama", num_layers=4)
    scenario = pico_scenario(
        folder, merge={"methods": ["collabedit", "simple_average"]}, attacks=[{"kind": "oversized", "parties": [1]}]
    )
    bad = finished_run(scenario)
    good = finished_run(without(scenario, [1]))
    assert difference(bad.arm_states(), good.arm_states()) == []


def test_a_refused_party_that_leaves_takes_back_what_was_merged_alone(finished_run):
    """Refused in round 1 and merged in round 2, it leaves in round 3: then all is as if it had never been there."""
    changes = {
        "merge": {"methods": ["global", "collabedit"], "reference": "initial", "exchange": "round"},
        "evaluate": {"metrics": ["efficacy", "removed_efficacy"]},
    }
    leaving = associative_scenario(
        stream={"rounds": 3, **ALONE},
        unlearn={"parties": [{"round": 3, "parties": [2]}]},
        attacks=[{"kind": "nan", "parties": [2], "rounds": [1, 1]}],
        **changes,
    )
    never = associative_scenario(
        stream={"rounds": 3, **ALONE}, unlearn={"parties": [{"round": 1, "parties": [2]}]}, **changes
    )
    left, absent = (finished_run(each) for each in (leaving, never))
    for arm, state in left.arm_states().items():
        other = absent.arm_states()[arm]
        for layer, weight in state.weights.items():
            assert abs(weight - other.weights[layer]).max() <= 1e-6
    assert audit.verify(left) == ()
    per_round = leaving.parties.edits_per_round
    back = [row for row in left.table("audit").to_pylist() if row["kind"] == "unlearn"]
    assert {row["num_edits"] for row in back} == {per_round}, "what was refused in round 1 is not there to be removed"
    for table in ("rounds", "parties"):
        counts = [row["num_removed"] for row in left.table(table).to_pylist() if row["round"] == 3]
        assert set(counts) - {0} == {per_round}, table


def test_honest_runs_are_not_judged_by_who_attacks_elsewhere(finished_run):
    """An attack of a round that has not come changes no bit of those before."""
    quiet = associative_scenario(stream={"rounds": 2, **ALONE})
    attacked = associative_scenario(
        stream={"rounds": 2, **ALONE}, attacks=[{"kind": "sign_flip", "parties": [0], "rounds": [2, 2]}]
    )
    assert attackers.attackers(attacked) == {0}
    first = finished_run(quiet).table("rounds").to_pylist()
    both = finished_run(attacked).table("rounds").to_pylist()
    norms = [
        [row["update_norm"] for row in rows if row["round"] == number] for rows in (first, both) for number in (1, 2)
    ]
    assert norms[0] == norms[2]
    assert norms[1] != norms[3]


def test_the_report_names_who_was_refused(tmp_path):
    scenario = associative_scenario(
        stream={"rounds": 2, **ALONE}, merge={"methods": ["collabedit"]}, attacks=[{"kind": "nan", "parties": [2]}]
    )
    (table,) = section(run_of(run_serially(scenario, tmp_path / "run"))).tables
    ((arm, why, _, parties),) = texts(table)
    assert (arm, parties) == ("collabedit", "2")
    assert "not finite" in why
    quiet = run_serially(associative_scenario(merge={"methods": ["collabedit"]}), tmp_path / "quiet")
    assert section(run_of(quiet)) is None
