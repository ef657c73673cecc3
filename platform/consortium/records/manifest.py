"""The manifest: what a run is, where it stands, and on what it ran.

``committed_round`` in it is the single point of truth: whatever else lies in the run directory counts only as far as
the manifest says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

import consortium
from consortium.common.errors import RunDirectoryError
from consortium.records import entries
from consortium.records.lock import is_locked
from consortium.records.rows import FIRST_TABLES, ROW_TYPES

FORMAT = 6
MANIFEST_FILE = "manifest.json"
_MOST_BYTES = 64 * 2**20
_CHECKPOINT = re.compile(r"checkpoints/round-\d{4,18}/[^/\0]+\.safetensors")

Status = Literal["running", "done", "failed"]


class Machine(BaseModel):
    """The machine that started the run."""

    model_config = ConfigDict(frozen=True)
    platform: str
    cpu: str
    num_cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]


class Note(BaseModel):
    """Something that befell a run while no round was worked on; the next round that is committed has it as an event."""

    model_config = ConfigDict(frozen=True)
    kind: str
    detail: str


class Manifest(BaseModel):
    """Content of manifest.json.

    Attributes:
        format: version of the run directory's layout.
        name: the scenario's name.
        seed: the scenario's seed.
        scenario: the scenario as resolved; scenario.yaml must say the same.
        replaced: the scenario that scenario.yaml may still hold, if a process ended while it was being replaced.
        status: running, done or failed. A run that says running while nobody holds its lock was interrupted.
        error: why it failed.
        started: when the run was created, ISO 8601, UTC.
        finished: when it was done or failed, ISO 8601, UTC.
        resumed: when it was taken up again, ISO 8601, UTC.
        worked_s: seconds that processes spent on the run, up to the last commit or end; pauses do not count.
        committed_round: last round that counts; None before the first commit.
        layer_shapes: edited layer → (V, K).
        checkpoints: path → SHA-256 of every checkpoint that is kept.
        files: path → SHA-256 of the tables, of what is remembered, and of TensorBoard's files.
        pending: path → SHA-256 that a file has if its last replacement came to its end; empty between replacements.
        inputs: name → SHA-256 of what results depend on and the run directory does not hold: facts, texts, the model's
            files, the key covariance of each layer.
        surroundings: name → value of what the run is computed with: code, libraries, processor, number types.
        accepts_changes: whether other inputs are recorded rather than refused, since the last `resume` said so.
        keep_all: keep the checkpoints of all rounds rather than of the newest two.
        tables: names of the tables that the run has; one begun by an earlier version may have fewer.
        untold: what the next commit tells as events, and forgets.
        versions: package → version; ``python`` too.
        machine: the machine that started the run.
        extras: what the caller wished to remember from the start.
        checksum: SHA-256 of all the rest as canonical JSON; made when the manifest is written.
    """

    model_config = ConfigDict(frozen=True)
    format: int = FORMAT
    name: str
    seed: int
    scenario: dict[str, Any]
    replaced: dict[str, Any] | None = None
    status: Status = "running"
    error: str | None = None
    started: str
    finished: str | None = None
    resumed: tuple[str, ...] = ()
    worked_s: float = 0.0
    committed_round: int | None = None
    layer_shapes: dict[int, tuple[int, int]] = {}
    checkpoints: dict[str, str] = {}
    files: dict[str, str] = {}
    pending: dict[str, str] = {}
    inputs: dict[str, str] = {}
    surroundings: dict[str, str] = {}
    accepts_changes: bool = False
    keep_all: bool = False
    tables: tuple[str, ...] = FIRST_TABLES
    untold: tuple[Note, ...] = ()
    versions: dict[str, str] = {}
    machine: Machine
    extras: dict[str, Any] = {}
    checksum: str = ""

    @field_validator("checkpoints")
    @classmethod
    def _names_checkpoints(cls, found: dict[str, str]) -> dict[str, str]:
        for path in found:
            if not _CHECKPOINT.fullmatch(path):
                raise ValueError(f"{path!r} is not the path of a checkpoint")
        return found

    @field_validator("tables")
    @classmethod
    def _names_tables(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        for name in found:
            if name not in ROW_TYPES:
                raise ValueError(f"{name!r} is not the name of a table")
        return found


def now() -> str:
    """The present time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a run directory; its checksum is made here."""
    content = manifest.model_dump(mode="json")
    content["checksum"] = checksum_of(content)
    entries.write_entry(folder, MANIFEST_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def checksum_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content but for its checksum, as canonical JSON."""
    counted = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run directory; raises RunDirectoryError when there is none or it is damaged."""
    try:
        text = entries.read_entry(folder, MANIFEST_FILE, _MOST_BYTES) if folder.is_dir() else None
    except FileNotFoundError:
        text = None
    except (OSError, ValueError) as error:
        if isinstance(error, RunDirectoryError):
            raise
        raise RunDirectoryError(
            f"{folder} cannot be looked into: {error}", "a folder that can be read.", "look at its permissions."
        ) from error
    if text is None:
        raise RunDirectoryError(
            f"{folder} is not a run directory: it has no {MANIFEST_FILE}.",
            "a folder that `consortium run` made.",
            "name the folder of a run; `consortium ls` lists them.",
        )
    return _parsed(folder / MANIFEST_FILE, text)


def _parsed(path: Path, text: str) -> Manifest:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise entries.damage_error(path, f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise entries.damage_error(path, "no JSON object")
    if (found := content.get("format")) != FORMAT:
        versions = content.get("versions")
        writer = versions.get("consortium", "unknown") if isinstance(versions, dict) else "unknown"
        raise RunDirectoryError(
            f"{path} is of format {found}.",
            f"format {FORMAT}, which Consortium {consortium.__version__} reads and writes.",
            f"use the version of Consortium that wrote it: {writer}.",
        )
    if content.get("checksum") != checksum_of(content):
        raise entries.damage_error(path, "its checksum is not that of its content, so something in it was changed")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise entries.damage_error(path, f"{where}: {first['msg']}" if where else first["msg"]) from error


def status_of(folder: Path, manifest: Manifest) -> str:
    """``running``, ``done``, ``failed``, or ``interrupted``: said to be running, but no process holds the run."""
    return "interrupted" if manifest.status == "running" and not is_locked(folder) else manifest.status


def machine() -> Machine:
    """This machine."""
    import torch  # a list of runs asks for no machine, and answers before torch would be imported

    return Machine(
        platform=platform.platform(),
        cpu=_cpu_name(),
        num_cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())),
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
