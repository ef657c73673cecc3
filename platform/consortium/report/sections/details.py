"""Methods with their references, machine, versions, and the scenario."""

from __future__ import annotations

from consortium.report.content import Folded, Meanings, Run, Section, Verbatim
from consortium.report.words import count, listing, own, size


def section(run: Run) -> Section:
    """On what the run was made."""
    manifest = run.directory.manifest
    machine, editor = manifest.machine, run.directory.scenario.editor
    methods = {arm.arm: ". ".join(filter(None, run.titles.get(arm.arm, ()))) for arm in run.results.arms}
    gpus = listing(machine.gpus) if machine.gpus else "no GPU"
    entries = {
        **{own(arm): own(title) for arm, title in methods.items()},
        "editor": f"{editor.title}. {editor.paper}",
        "machine": f"{own(machine.cpu)}, {count(machine.num_cpus, 'CPU')}, {size(machine.memory_bytes)} of memory, "
        f"{own(gpus)}; {own(machine.platform)}",
        "versions": own(", ".join(f"{name} {version}" for name, version in manifest.versions.items())),
        "tables": "Every number of this page is in the folder tables beside it, as Parquet.",
    }
    scenario = Folded("The scenario as it was run", [Verbatim(own(run.directory.scenario_text))])
    return Section("Details", [Meanings(entries), scenario])
