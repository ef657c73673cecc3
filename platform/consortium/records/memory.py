"""What a resumed run must not draw again, for example its contexts: a JSON file beside the checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from consortium.common.counting import count
from consortium.records import checkpoints, entries

MEMORY_FILE = f"{checkpoints.CHECKPOINT_FOLDER}/memory.json"
_MOST_BYTES = 64 * 2**20


class _Memory(BaseModel):
    """What is known of the content; other keys may be there."""

    model_config = ConfigDict(extra="allow", strict=True)
    contexts: list[str] | None = None
    faults: list[list[str]] | None = None


def read_memory(folder: Path, num_faults: int) -> dict[str, Any]:
    """The content, by key; empty where nothing was remembered yet.

    Args:
        folder: the run directory.
        num_faults: how many faults the scenario has; as many lists there are of where they struck.

    Raises:
        RunDirectoryError: the file is not what Consortium wrote.
    """
    try:
        text = entries.read_entry(folder, MEMORY_FILE, _MOST_BYTES)
    except FileNotFoundError:
        return {}
    try:
        found = _Memory.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise entries.damage_error(
            folder / MEMORY_FILE, f"{place}: {first['msg']}" if place else first["msg"]
        ) from None
    if found.faults is not None and len(found.faults) != num_faults:
        raise entries.damage_error(
            folder / MEMORY_FILE, f"it tells of {count(len(found.faults), 'fault')}, the scenario of {num_faults}"
        )
    return found.model_dump(exclude_unset=True)


def memory_text(content: dict[str, Any]) -> str:
    """The file for a content."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
