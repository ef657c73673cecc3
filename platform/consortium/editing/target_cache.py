"""Targets on disk: a scenario that is run again, resumed or changed in its merges alone does not optimise them again.

An entry is all that one call optimised together, since the last bits of a target depend on what stands beside it in
a batch; so a run with a warm cache has the bits of one with a cold cache. Its name is a digest of everything the
targets depend on, and it is read only if its own checksum fits. Targets are a party's secret: the folder is the
worker's own, readable by its user alone, and nothing of it is ever sent.

Shapes: E edits, V hidden width.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.files import make_folders, read_arrays, write_arrays
from consortium.common.places import cache_folder
from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.fingerprint import algorithm_version, arithmetic_fingerprint, fingerprint_digest, layer_hash
from consortium.models.language import LanguageModel
from consortium.scenario.editor import TargetSpec

#: Raised when entries are laid out otherwise.
LAYOUT_VERSION = 2
#: Bytes of all entries, above which those used longest ago are removed; down to the share that is left of them.
LIMIT_BYTES = 2 * 2**30
_SHARE_LEFT = 0.9

_NAMES = {"vectors", "num_steps", "losses", "shifts", "checksum"}


def targets_fingerprint(
    model: LanguageModel,
    frozen: Mapping[str, Any],
    edited_layers: Sequence[int],
    edits: Sequence[Edit],
    contexts: Sequence[str],
    layer: int,
    settings: TargetSpec,
) -> dict[str, object]:
    """Everything that targets depend on, in plain values; :class:`TargetCache` hashes it into a name.

    Args:
        model: the model under its present weights.
        frozen: :func:`consortium.editing.fingerprint.backbone_fingerprint` of it.
        edited_layers: the layers whose weights change in this run.
        edits: all edits that are optimised together, in their order; probes are no part of it.
        contexts: texts put before the prompts.
        layer: the layer after which targets are.
        settings: the optimisation's.
    """
    return {
        "layout": LAYOUT_VERSION,
        "algorithm": algorithm_version(),
        **frozen,
        **arithmetic_fingerprint(model),
        "weights": {str(each): layer_hash(model, each) for each in edited_layers},
        "layer": layer,
        "edits": [(edit.subject, edit.prompt, edit.join, edit.target_new) for edit in edits],
        "contexts": list(contexts),
        "settings": settings.model_dump(mode="json"),
    }


class TargetCache:
    """Targets by fingerprint, in a folder that any number of runs may share at the same time.

    A folder that cannot be written is no error: targets are then optimised each time.

    Args:
        folder: where entries lie; by default ``targets`` in the cache folder.
        limit_bytes: bytes of all entries, above which those used longest ago are removed.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or cache_folder() / "targets"
        self.limit_bytes = limit_bytes
        self._until_looking = 0

    def load(self, fingerprint: Mapping[str, object]) -> Targets | None:
        """The targets of a fingerprint, bit for bit as they were stored; None when absent or damaged."""
        path = self._path(fingerprint)
        arrays = read_arrays(path)
        if arrays is None or arrays.keys() != _NAMES:
            return None
        if arrays.pop("checksum").tobytes() != _checksum(path.stem, arrays):
            return None
        with suppress(OSError):
            os.utime(path)
        # Into memory of torch's own: where a file's bytes lie in memory must not change what is computed from them.
        vectors_EV = torch.empty(arrays["vectors"].shape).copy_(torch.from_numpy(arrays["vectors"]))
        layer = fingerprint["layer"]
        assert isinstance(layer, int)
        num_steps, losses, shifts = (tuple(arrays[name].tolist()) for name in ("num_steps", "losses", "shifts"))
        return Targets(layer, vectors_EV, num_steps, losses, shifts)

    def has(self, fingerprint: Mapping[str, object]) -> bool:
        """Whether there is an entry, damaged or not."""
        return self._path(fingerprint).exists()

    def store(self, fingerprint: Mapping[str, object], targets: Targets) -> None:
        """Keep targets; an entry is whole or absent, and of two writers of the same either will do."""
        path = self._path(fingerprint)
        arrays: dict[str, NDArray[Any]] = {
            "vectors": targets.vectors_EV.detach().contiguous().numpy(),
            "num_steps": np.array(targets.num_steps, dtype=np.int64),
            "losses": np.array(targets.losses, dtype=np.float64),
            "shifts": np.array(targets.shifts, dtype=np.float64),
        }
        checksum = np.frombuffer(_checksum(path.stem, arrays), dtype=np.uint8)
        with suppress(OSError):
            make_folders(self.folder)
            write_arrays(path, {**arrays, "checksum": checksum})
        self._until_looking -= sum(array.nbytes for array in arrays.values())
        if self._until_looking < 0:
            self._trim()

    def _path(self, fingerprint: Mapping[str, object]) -> Path:
        return self.folder / f"{fingerprint_digest(fingerprint)}.safetensors"

    def _trim(self) -> None:
        """Remove the entries used longest ago; another run may do the same, or read them, meanwhile."""
        entries = sorted(self._entries())
        total = sum(num_bytes for _, num_bytes, _ in entries)
        if total > self.limit_bytes:
            for _, num_bytes, path in entries:
                if total <= _SHARE_LEFT * self.limit_bytes:
                    break
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                total -= num_bytes
        # Others write too, so the folder is looked at again well before this run alone could fill what is left.
        self._until_looking = (self.limit_bytes - total) // 4

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was used last, its bytes, and its path; what killed writers left counts too."""
        with suppress(OSError), os.scandir(self.folder) as found:
            for entry in found:
                with suppress(OSError):
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, Path(entry.path)


def _checksum(name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """SHA-256 over the entry's name and its arrays: neither bad bytes nor a file under another's name is taken."""
    digest = hashlib.sha256(name.encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
