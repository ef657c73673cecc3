"""The scenarios that are shipped with the package and runnable by name."""

from __future__ import annotations

from pathlib import Path

import consortium
from consortium.common.reading import expanded, is_file


def scenario_folder() -> Path:
    """The folder of shipped scenarios: inside the installed package, or beside the source roots of a checkout."""
    package = Path(consortium.__file__).resolve().parent
    installed = package / "scenarios"
    return installed if installed.is_dir() else package.parents[1] / "scenarios"


def scenario_names() -> list[str]:
    """Names of the shipped scenarios, sorted; those of a subfolder begin with it: ``paper/single-round``."""
    folder = scenario_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def scenario_path(name: str) -> Path | None:
    """The file of a shipped scenario; None when there is none of that name."""
    return scenario_folder() / f"{name}.yaml" if name in scenario_names() else None


def find_file(name: str, base_dir: Path) -> Path | None:
    """The file that a scenario names: beside the scenario if it is there, else from the working directory."""
    path = expanded(name)
    return next((each for each in (base_dir / path, path) if is_file(each)), None)
