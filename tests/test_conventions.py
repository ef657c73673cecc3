"""Conventions of the whole repository, held by tests."""

import ast
import inspect
import json
import pickle
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from consortium.cli.arguments import UsageError, build_parser
from consortium.cli.main import COMMANDS
from consortium.common import errors
from consortium.loading.builtin_scenarios import scenario_folder, scenario_names
from consortium.loading.prepare import prepare

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "platform").rglob("*.py"), *(ROOT / "actors").rglob("*.py")])
TEXTS = [
    path
    for pattern in (
        "platform/**/*",
        "actors/**/*",
        "tests/**/*",
        "scenarios/**/*",
        "scripts/*",
        "benchmarks/**/*",
        "docs/*",
        "deploy/**/*",
        "*.md",
        "*.yaml",
    )
    for path in ROOT.glob(pattern)
    if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".png"
]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
HOUSE_WORDS = re.compile(
    r"\b(befell|bears?|borne|doors?|in vain|so many|whatever|wanting|but for|shall|of use|held against|told of|besides"
    r"|lets? go|settled|settle|slips|journal|ledger|lanes?|cohorts?|hosts?|trunk|anchored|withdrawn)\b"
)
ERRORS = [
    *(each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.ConsortiumError)),
    UsageError,
]
ERROR_NAMES = {each.__name__ for each in ERRORS}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_documentation_has_the_words_of_the_field(page):
    """Words that only this project ever used in their sense, or that a reader has to read twice."""
    assert HOUSE_WORDS.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("root", ["platform", "actors"])
def test_source_roots_are_no_packages(root):
    """A package named ``platform`` would shadow Python's own module."""
    assert not (ROOT / root / "__init__.py").exists()


def test_every_package_is_listed_for_installation():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    roots = {"consortium": ROOT / "platform", "consortium_ray": ROOT / "actors"}
    found = {
        ".".join(path.parent.relative_to(root).parts)
        for name, root in roots.items()
        for path in (root / name).rglob("*.py")
    }
    assert sorted(settings["packages"]) == sorted(found | {"consortium.scenarios"})
    assert {name: ROOT / folder for name, folder in settings["package-dir"].items()} == {
        "consortium": ROOT / "platform/consortium",
        "consortium_ray": ROOT / "actors/consortium_ray",
        "consortium.scenarios": scenario_folder(),
    }


def test_every_file_that_is_no_module_is_installed_too():
    """Templates, style sheets and texts lie beside the modules that read them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    named = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / "platform" / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "platform").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix not in (".py", ".pyc") and ".egg-info" not in str(path)} <= named


def test_html_and_svg_are_in_templates_alone():
    names = "table|t[rhd]|h[1-6]|p|b|div|span|ul|li|d[ltd]|svg|path|text|figure|figcaption|details|small|bdi|pre|style"
    tag = re.compile(rf"</?({names})\b[^<>]*>")
    found = {path.name: tag.findall(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not {name: tags for name, tags in found.items() if tags}


@pytest.mark.parametrize("name", scenario_names())
def test_every_shipped_scenario_can_run(name):
    prepared = prepare(name)
    assert prepared.scenario.name == name.replace("/", "-")
    assert prepared.scenario.description


def test_promised_scenarios_are_shipped():
    promised = {"quickstart", "single-party", "conflict-storm", "forgetting", "thousand-parties"}
    promised |= {
        "stragglers",
        "poisoning",
        "unlearning",
        "repeats",
        "overlap",
        "conflict",
        "paper/single-round",
        "paper/multi-round",
    }
    promised |= {f"stress/{name}" for name in ("ten-thousand-parties", "many-edits", "many-rounds", "many-workers")}
    promised |= {"stress/two-hundred-parties"}
    assert promised <= set(scenario_names())


def test_the_command_line_is_as_documented():
    """A change here is a change of the interface: adapt docs, README and this list together."""
    parser = build_parser(COMMANDS)
    commands = next(action.choices for action in parser._actions if action.choices)
    surface = {
        name: sorted(option for action in command._actions for option in (action.option_strings or [action.metavar]))
        for name, command in commands.items()
    }
    assert surface == {
        "run": ["--address", "--autoscale", "--format", "--help", "--out", "--serial", "--set", "-h", "NAME-OR-FILE"],
        "resume": ["--accept-changes", "--address", "--autoscale", "--format", "--help", "--set", "-h", "DIR"],
        "report": ["--help", "--pictures", "-h", "DIR"],
        "export": ["--arm", "--help", "--round", "-h", "DIR", "FOLDER"],
        "validate": ["--help", "--set", "-h", "FILE"],
        "new": ["--help", "-h", "FILE"],
        "ls": ["--help", "-h", "DIR"],
        "schema": ["--help", "-h"],
    }


@pytest.mark.parametrize("error_class", ERRORS)
def test_errors_survive_the_way_between_processes(error_class):
    error = error_class("found", "expected", "remedy")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.found, copy.expected, copy.remedy) == (error_class, "found", "expected", "remedy")
    assert str(copy) == str(error)


def test_the_engine_knows_no_ray():
    """Only the command line imports the runtime, and nothing in the engine imports Ray."""
    for path in SOURCES:
        if path.is_relative_to(ROOT / "platform") and not path.is_relative_to(ROOT / "platform/consortium/cli"):
            imported = {name.split(".")[0] for name in _imports(path)}
            assert not imported & {"consortium_ray", "ray"}, path


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_no_file_knows_a_machine():
    """No path of somebody's home or work folder; /home/ubuntu is that of the nodes in cluster.yaml."""
    machine_path = re.compile(r"(/home/(?!ubuntu)\w|/Users/\w|/root/\w|/work/\w|[A-Z]:\\\\Users)")
    this_file = Path(__file__)
    for path in TEXTS:
        if path != this_file:
            assert not machine_path.search(path.read_text(encoding="utf-8")), path


def test_the_cluster_file_fits_the_launcher():
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    workers = [kind for name, kind in cluster["available_node_types"].items() if name != cluster["head_node_type"]]
    assert sorted("GPU" in kind["resources"] for kind in workers) == [False, True]


@pytest.mark.parametrize("script", ["scripts/quickstart", "scripts/test", "scripts/check", "scripts/setup", ".ci/run"])
def test_scripts_can_be_run(script):
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert path.read_text(encoding="ascii").startswith("#!/bin/sh\n")


def test_torch_is_pinned_without_a_build():
    """A local build tag such as +cpu would bind the pin to one index."""
    pins = (ROOT / "constraints.txt").read_text(encoding="ascii").splitlines()
    assert "torch==2.13.0" in pins
    assert not [pin for pin in pins if "+" in pin or "@" in pin or pin.startswith("-")]


def test_every_error_says_what_was_expected_and_what_to_do():
    """Two of them say so in another part: the list of a scenario's mistakes, and a fault of the program's own."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERROR_NAMES:
                parts = [ast.unparse(each) for each in node.args]
                if parts[0].startswith("*") or path.name == "field_errors.py" or path.parent.name == "cli":
                    continue
                assert len(parts) == 3, f"{path}:{node.lineno}"
                assert "''" not in parts, f"{path}:{node.lineno}"
