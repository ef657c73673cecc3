"""What of a run does not fit together: its manifest, its checkpoints and its tables."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from consortium.common.errors import RunDirectoryError
from consortium.records import checkpoints, manifest
from consortium.records.digests import unlike

if TYPE_CHECKING:
    from consortium.records.directory import RunDirectory


def check_round(directory: RunDirectory) -> None:
    """Refuse a run of which more rounds are committed than its scenario has."""
    rounds, committed = directory.scenario.stream.rounds, directory.committed_round
    if committed is not None and not 0 <= committed <= rounds:
        raise unlike(
            directory.path / manifest.MANIFEST_FILE,
            f"says that round {committed} is committed, of a run of {rounds} rounds",
        )


def missing_arms(directory: RunDirectory) -> list[str]:
    """Arms of which the manifest names no checkpoint after the committed round, in words."""
    committed = directory.committed_round
    if committed is None:
        return []
    arms = (method.arm for method in directory.scenario.merge.methods)
    missing = [arm for arm in arms if checkpoints.checkpoint_path(arm, committed) not in directory.manifest.checkpoints]
    return [f"names no checkpoint of arm {arm} after round {committed}" for arm in missing]


def misfits(directory: RunDirectory) -> list[str]:
    """What does not fit together, in words; the tables must be as they were written."""
    has_weights = bool(directory.manifest.layer_shapes)
    missing = missing_arms(directory) if has_weights else []
    return [
        *(f"{manifest.MANIFEST_FILE} {what}" for what in missing),
        *_unreadable(directory),
        *_lost_rounds(directory),
    ]


def _unreadable(directory: RunDirectory) -> list[str]:
    """Tables and remembered values that are of another kind than they must be."""
    found = []
    looks: list[partial[Any]] = [partial(directory.table, name, ["round"]) for name in directory.manifest.tables]
    for look in (*looks, partial(directory.recall, "")):
        try:
            look()
        except RunDirectoryError as error:
            found.append(error.found)
    return found


def damaged_checkpoints(directory: RunDirectory) -> list[str]:
    """What is wrong with any checkpoint that is kept, in words; none of another arm, round or shape is right."""
    found = []
    for path, digest in directory.manifest.checkpoints.items():
        try:
            checkpoints.load(directory.path, path, digest, directory.manifest.layer_shapes)
        except RunDirectoryError as error:
            found.append(error.found)
    return found


def _lost_rounds(directory: RunDirectory) -> list[str]:
    """Committed rounds of which the tables do not tell."""
    told = {(row["round"], row["arm"]) for row in directory.table("rounds", ["arm"]).to_pylist()}
    arms = [method.arm for method in directory.scenario.merge.methods]
    rounds = range(1, (directory.committed_round or 0) + 1)
    lost = [number for number in rounds if any((number, arm) not in told for arm in arms)]
    return [f"tables/rounds.parquet has not all arms of round {number}, which is committed" for number in lost]
