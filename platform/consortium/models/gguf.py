"""GGUF files: a model in one file, quantised, unpacked once into a folder that transformers opens as any other.

The folder holds the weights in the dtype of the run, so that processes of a machine share the pages of the frozen
ones. It is named by what the file holds and by how that is converted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from consortium.common.counting import count
from consortium.common.errors import ModelError, whole_reason
from consortium.common.files import sha256
from consortium.common.places import cache_folder
from consortium.models.sizes import check_sizes

SUFFIX = ".gguf"

#: Transformers types its factories in part only.
_CausalLM: Any = AutoModelForCausalLM

#: Part of the folder's name: raise it when the conversion changes what it writes.
_CONVERSION = 1
_LONGEST_WAIT_S = 900.0
#: Tensors, and fields, of a file at most.
_MOST_ENTRIES = 100_000
#: File of an unpacked folder with the SHA-256 of every other.
_DIGESTS = "digests.json"
#: Folders that this process found to be as they were written → size and time of each file then.
_SOUND: dict[Path, dict[str, tuple[int, int]]] = {}

_log = logging.getLogger(__name__)

#: Looks at a model and its tokenizer before they are kept, and refuses them by a ModelError.
Check = Callable[[Any, Any], None]


def gguf_folder(
    source: Path, dtype: str, cache_dir: Path | None = None, name: str | None = None, check: Check | None = None
) -> Path:
    """The folder with a GGUF file's model in ``dtype``, unpacked now if it has not been before.

    A small model takes about 15 s, one with a large vocabulary a minute. Several processes may ask at once: one
    unpacks, the others wait for it. A folder appears complete or not at all.

    Args:
        source: the file.
        dtype: name of the dtype to save in.
        cache_dir: where it is unpacked; by default ``$CONSORTIUM_CACHE`` or ``~/.cache/consortium``.
        name: beginning of the folder's name; by default the file's.
        check: looks at what was unpacked before it is kept.

    Raises:
        ModelError: the file cannot be read, the cache folder cannot be written, or the check refused the model.
    """
    name = name or source.stem
    cache = cache_dir or cache_folder()
    folder = cache / f"{name}-{dtype}-{_key(source)}"
    if folder.is_dir() and _is_sound(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock", timeout=_LONGEST_WAIT_S):
            if folder.is_dir() and not _is_sound(folder):  # what others have open of it stays readable to them
                _log.warning("%s is damaged; the model is unpacked again", folder)
                shutil.rmtree(folder)
            if not folder.is_dir():
                convert(source, getattr(torch, dtype), folder, check)
    except Timeout:
        raise ModelError(
            f"another process has been converting {name} for more than {_LONGEST_WAIT_S:.0f} s",
            f"the folder {folder}",
            f"end that process, delete {folder}.lock and start again",
        ) from None
    except OSError as error:
        raise ModelError(
            f"{name} cannot be unpacked into {cache}: {error}",
            "a folder that can be written, with room for the model in its dtype",
            "set CONSORTIUM_CACHE to another folder",
        ) from error
    return folder


def _is_sound(folder: Path) -> bool:
    """Whether every file has the SHA-256 that it was written with; read again only when a file was touched since.

    A folder of before there were digests is taken as it is.
    """
    try:
        known = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
        touched = {name: (status := (folder / name).stat()) and (status.st_size, status.st_mtime_ns) for name in known}
        if _SOUND.get(folder) == touched:
            return True
        is_sound = all(sha256(folder / name) == digest for name, digest in known.items())
    except FileNotFoundError:
        return not (folder / _DIGESTS).exists()
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    if is_sound:
        _SOUND[folder] = touched
    return is_sound


def _key(source: Path) -> str:
    """Name of what a conversion depends on: the file's bytes, and how they are converted."""
    try:
        with source.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{source} cannot be read: {error}", "a GGUF file", "correct model.name") from error
    return f"{content[:16]}-{_CONVERSION}"


def convert(source: Path, dtype: torch.dtype, folder: Path, check: Check | None) -> None:
    """Unpack into a folder beside ``folder``, and rename it when it is complete."""
    model, tokenizer = _unpacked(source)
    if check is not None:
        check(model, tokenizer)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        unfinished = Path(scratch) / "model"
        model.to(dtype).save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        digests = {path.name: sha256(path) for path in sorted(unfinished.iterdir()) if path.is_file()}
        (unfinished / _DIGESTS).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
        try:
            unfinished.rename(folder)
        except OSError:
            # On a file system whose locks do not hold, another process may have been first: its folder is as good.
            if not folder.is_dir():
                raise


def _check_header(source: Path) -> None:
    """Refuse numbers of tensors and fields that a file of this length cannot hold; reading them would never end."""
    with source.open("rb") as file:
        head = file.read(24)
    magic, _, num_tensors, num_fields = struct.unpack("<4sIQQ", head) if len(head) == 24 else (b"", 0, 0, 0)
    size = source.stat().st_size
    if magic != b"GGUF" or max(num_tensors, num_fields) > _MOST_ENTRIES or 24 + 12 * (num_tensors + num_fields) > size:
        found = (
            f"{count(num_tensors, 'tensor')} and {count(num_fields, 'field')} in {size:,} bytes"
            if magic == b"GGUF"
            else "no header"
        )
        raise ModelError(
            f"the GGUF file {source} cannot be unpacked: {found}", "a whole GGUF file", "download the file again"
        )


def _unpacked(source: Path) -> tuple[Any, Any]:
    transformers_logging.disable_progress_bar()
    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True, "trust_remote_code": False}
    try:
        _check_header(source)
        config = AutoConfig.from_pretrained(source.parent, **where)
        check_sizes(config.to_dict(), str(source))
        tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
        quantised = _CausalLM.from_pretrained(source.parent, dtype=torch.float32, **where)
    except ModelError:
        raise
    except Exception as error:
        # Transformers and gguf raise errors of many kinds for files that are damaged, cut off or of unknown kinds.
        raise ModelError(
            f"the GGUF file {source} cannot be unpacked: {whole_reason(error)}",
            "a GGUF file of an architecture that transformers reads, with its tokenizer",
            "download the file again, or name a folder that transformers saved",
        ) from error
    # A model of the plain config: the loaded one still says that it is quantised, and would be saved so.
    for leftover in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, leftover):
            delattr(config, leftover)
    model = _CausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    return model, tokenizer
