"""The two rules of the layout (docs/architecture.md): imports only upwards in its list, and a feature's one word."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "platform/consortium"
RUNTIME = ROOT / "actors/consortium_ray"
#: Every package imports only those before it.
PACKAGES = [
    *("common", "scenario", "data", "merging", "models", "records", "editing"),
    *("evaluation", "features", "party", "loading", "engine", "report", "cli"),
]
#: The same of the Ray runtime; ``messages``, ``sendable`` and ``runtime`` are modules.
RUNTIME_PACKAGES = [
    "messages",
    "checksums",
    "sendable",
    "nodes",
    "faults",
    "workers",
    "coordinator",
    "local_cluster",
    "runtime",
]
#: Feature → where its word stands besides ``features/``.
FEATURES = {
    "attacks": ("scenario", "loading/checks"),
    "audit": ("report/sections",),
    "conflicts": ("loading/checks", "report/sections"),
    "faults": ("scenario", "loading/checks"),
    "known_facts": ("report/sections",),
    "screening": ("scenario", "report/sections"),
    "unlearning": ("scenario", "loading/checks", "report/sections"),
    "virtual_time": ("scenario", "loading/checks", "report/sections"),
}


def imported_packages(path: Path, top: str) -> set[str]:
    """Names of the packages of ``top`` that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == top:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{top}."):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith(f"{top}.")}
    return {name.removeprefix(f"{top}.").split(".")[0] for name in found}


@pytest.mark.parametrize(
    ("folder", "order"), [(ENGINE, PACKAGES), (RUNTIME, RUNTIME_PACKAGES)], ids=["engine", "runtime"]
)
def test_a_package_imports_only_those_above_it(folder, order):
    found = {path.relative_to(folder).parts[0].removesuffix(".py") for path in folder.rglob("*.py")}
    assert found - {"__init__"} == set(order)
    upwards = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in sorted(folder.rglob("*.py"))
        if (own := path.relative_to(folder).parts[0].removesuffix(".py")) != "__init__"
        for other in imported_packages(path, folder.name)
        if other in order and order.index(other) > order.index(own)
    ]
    assert not upwards


def test_the_root_holds_nothing_loose():
    assert [path.name for path in ENGINE.glob("*.py")] == ["__init__.py"]


def test_only_the_command_line_knows_the_runtime():
    for path in ENGINE.rglob("*.py"):
        if not path.is_relative_to(ENGINE / "cli"):
            assert not imported_packages(path, "consortium_ray"), path


def test_a_feature_is_one_word_in_its_places():
    assert set(FEATURES) == {path.name for path in (ENGINE / "features").iterdir() if (path / "__init__.py").is_file()}
    for feature, places in FEATURES.items():
        for place in places:
            assert (ENGINE / place / f"{feature}.py").is_file(), f"{place}/{feature}.py"


#: Names that every file of a folder of like things has: commands, data formats, metrics, features, sections.
COMMON_NAMES = {
    "main",
    *("parse", "recognises"),
    *("METRIC", "assess", "items", "opened", "probes", "reduce"),
    *("AT_COORDINATOR", "AT_PARTIES"),
    "section",
}


def public_names(path: Path) -> set[str]:
    """Names that a module defines and others may import."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_no_public_name_stands_in_two_modules():
    places: dict[str, list[str]] = {}
    for folder in (ENGINE, RUNTIME):
        for path in sorted(folder.rglob("*.py")):
            for name in public_names(path) - COMMON_NAMES:
                places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
