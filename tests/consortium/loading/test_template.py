"""The commented scenario: it runs as written, explains every key and never replaces a file."""

import pytest
from consortium.common.errors import ScenarioError
from consortium.loading import allowed
from consortium.loading.check import check_scenario
from consortium.loading.load import load_scenario
from consortium.loading.template import TEMPLATE_WIDTH, template, write_template
from consortium.scenario.attacks import ATTACKS
from consortium.scenario.faults import FAULTS
from consortium.scenario.methods import METHODS
from consortium.scenario.schema import Scenario


@pytest.mark.parametrize("file_name", ["mine.yaml", "true.yaml", "12.yaml", "mein Szenario ä.yaml", "_.yaml"])
def test_the_template_is_a_right_scenario_of_defaults(tmp_path, file_name):
    write_template(tmp_path / file_name)
    loaded = load_scenario(str(tmp_path / file_name))
    check_scenario(loaded)
    assert loaded.scenario == Scenario(name=loaded.scenario.name)


_IN_LISTS = (
    *("PhaseSpec", "PartyRemovalSpec", "EditRemovalSpec", "DeviceClassSpec"),
    *("WorkerKindSpec", "PriceSpec"),
    *(spec.__name__ for kinds in (METHODS, FAULTS, ATTACKS) for spec in kinds.values()),
)
_OTHER_FORMS = ("AssociativeModelSpec", "ConflictSpec", "DistributionSpec", "LognormalSpec")


def test_every_key_has_its_meaning():
    text = template("mine.yaml")
    for definition in (allowed.json_schema(), *allowed.json_schema()["$defs"].values()):
        if definition["title"] in (*_IN_LISTS, *_OTHER_FORMS):
            continue
        for key, node in definition["properties"].items():
            assert f"{key}:" in text
            assert node["description"].split(";")[0][:40] in text, key


def test_lines_fit_the_screen():
    assert max(len(line) for line in template("mine.yaml").splitlines()) <= TEMPLATE_WIDTH


def test_every_example_in_the_template_is_right(tmp_path):
    """Each commented-out form, put in place of the line above it, still makes a right scenario."""
    lines = template("mine.yaml").splitlines()
    examples = [place for place, line in enumerate(lines) if line.lstrip().startswith("# ") and _is_example(line)]
    assert len(examples) == 11
    for place in examples:
        key = lines[place].lstrip("# ").split(":")[0]
        indent = lines[place].index("#") * " "
        start = max(row for row in range(place) if lines[row].startswith(f"{indent}{key}:"))
        end = place + 2 if lines[place].rstrip().endswith(":") else place + 1
        swapped = [line.replace("# ", "", 1) for line in lines[place:end]]
        path = tmp_path / f"{key}-{place}.yaml"
        path.write_text("\n".join(lines[:start] + swapped + lines[end:]), encoding="utf-8")
        check_scenario(load_scenario(str(path)))


def _is_example(line):
    shown = (
        "conflict",
        "conflicts",
        "phases",
        "methods",
        "workers",
        "prices",
        "faults",
        "attacks",
        "devices",
        "classes",
    )
    return line.lstrip("# ").split(":")[0] in shown


def test_a_file_that_exists_is_left_alone(tmp_path):
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(ScenarioError, match=r"mine\.yaml exists"):
        write_template(tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScenarioError, match="cannot be written"):
        write_template(tmp_path / "no" / "mine.yaml")
