"""Checksums of the weights and metrics that every shipped scenario ends with, at a small size.

    ./scripts/golden record golden.json
    ./scripts/golden compare golden.json

Language models are replaced by a pico model and large associative models by small ones; parties and rounds are cut.
What a scenario shows (its merge methods, conflicts, removals, devices) stays. All runs together take two minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from consortium.cli.main import main as consortium
from safetensors.numpy import load_file
from support.pico import pico_folder

_SCENARIOS = Path(__file__).parents[3] / "scenarios"
_PICO_EDITOR = (
    "{layers: [0, 2], residual_schedule: spread, covariance_weight: 0.01, target: {steps: 3}, "
    "contexts: {count: 2, tokens: 4}, covariance: {tokens: 200}}"
)
#: Keys that are set for scenarios of an associative model.
_SMALL_MODEL = "{name: associative, num_layers: 2, key_width: 48, value_width: 16, num_objects: 16}"
#: Scenario → further keys; sizes of those that are large by design.
_SMALLER = {
    "thousand-parties": ["parties.count=20", "parties.edits_per_round=5", "cluster.parties_per_batch=5"],
    "stress/many-edits": ["parties.count=4", "parties.edits_per_round=20"],
    "stress/many-workers": ["parties.count=20", "parties.edits_per_round=5"],
    "stress/many-rounds": ["parties.count=10", "stream.rounds=6", "cluster.parties_per_batch=3", "evaluate.every=3"],
    "stress/ten-thousand-parties": ["parties.count=40", "parties.edits_per_round=5", "cluster.parties_per_batch=10"],
    "stress/two-hundred-parties": ["parties.count=8", "editor.residual_schedule=first_last"],
    "forgetting": ["stream.rounds=6", "evaluate.every=3"],
}


def scenario_names() -> list[str]:
    """Names of all shipped scenarios."""
    return sorted(str(path.relative_to(_SCENARIOS).with_suffix("")) for path in _SCENARIOS.rglob("*.yaml"))


def overrides(name: str, pico: Path) -> list[str]:
    """What makes a shipped scenario small."""
    if "associative" in (_SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8").split("\nparties:")[0]:
        small = [f"model={_SMALL_MODEL}"]
    else:
        small = [f"model={{name: {pico}, device: cpu}}", f"editor={_PICO_EDITOR}"]
    return [*small, *_SMALLER.get(name, []), "cluster.target_cache=false"]


def checksums(name: str, folder: Path, pico: Path) -> dict[str, str]:
    """Run a shipped scenario at its small size: file of a last checkpoint → SHA-256 of its weights."""
    changes = [f"--set={change}" for change in overrides(name, pico)]
    with (folder.parent / "log.txt").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        code = consortium(["run", name, "--serial", "--out", str(folder), *changes])
    if code != 0:
        raise SystemExit(f"{name} ended with {code}: see {folder.parent / 'log.txt'}")
    last = sorted((folder / "checkpoints").glob("round-*"))[-1]
    return {f"{last.name}/{path.stem}": _of_weights(path) for path in sorted(last.glob("*.safetensors"))}


def _of_weights(path: Path) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(load_file(path).items()):
        if name.endswith(".weight"):
            digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def measure() -> dict[str, dict[str, str]]:
    """Scenario → checksums of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CONSORTIUM_CACHE"] = f"{folder}/cache"
        pico = pico_folder(Path(folder) / "pico", "llama", num_layers=4)
        found = {}
        for name in scenario_names():
            print(name, file=sys.stderr)  # noqa: T201
            found[name] = checksums(name, Path(folder) / name.replace("/", "-"), pico)
        return found


def main(arguments: list[str]) -> int:
    """``record FILE`` or ``compare FILE``."""
    if len(arguments) != 2 or arguments[0] not in ("record", "compare"):
        raise SystemExit("usage: ./scripts/golden record|compare FILE")
    path, found = Path(arguments[1]), measure()
    if arguments[0] == "record":
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    wanted = json.loads(path.read_text(encoding="utf-8"))
    places = sorted({(name, file) for side in (found, wanted) for name, files in side.items() for file in files})
    changed = [
        place for place in places if found.get(place[0], {}).get(place[1]) != wanted.get(place[0], {}).get(place[1])
    ]
    for name, file in changed:
        print(f"{name}: {file} differs")  # noqa: T201
    print(f"{len(places) - len(changed)} of {len(places)} equal")  # noqa: T201
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
