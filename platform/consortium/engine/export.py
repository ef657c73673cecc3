"""Writing an edited model as a folder that transformers opens: weights, configuration and tokenizer."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consortium.common.errors import InputError, ModelError, RunError
from consortium.common.files import make_folders, remove_folders
from consortium.editing.fingerprint import backbone_fingerprint
from consortium.loading.inputs import model_inputs
from consortium.models.language import LanguageModel
from consortium.models.open import open_model
from consortium.scenario.schema import LanguageModelSpec


class ExportError(InputError):
    """The folder for an edited model cannot be taken."""


@contextmanager
def target(folder: Path) -> Iterator[None]:
    """Whatever the block does, ``folder`` is for an edited model: it is refused before one is loaded, and folders that
    were made above it go where the block fails.

    Raises:
        ExportError: it is no folder, holds something, or cannot be made.
    """
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise ExportError(f"{folder} is no folder", "a folder that is new or empty", "name another folder")
        if folder.is_dir() and any(folder.iterdir()):
            raise ExportError(
                f"{folder} holds something already", "a folder that is new or empty", "name another folder"
            )
        made = make_folders(folder.parent)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    except BaseException:
        remove_folders(made)
        raise


def write_edited_model(
    spec: LanguageModelSpec, inputs: Mapping[str, str], weights: Mapping[int, NDArray[np.float32]], folder: Path
) -> None:
    """Open a model, put edited weights into it, and write all of it to a folder.

    The folder is complete or not there: everything is written beside it first.

    Args:
        spec: the model; its weights are written in its dtype.
        inputs: name → digest of what the run began with, the parts of its model among them.
        weights: layer → edited weight [V, K], V value width, K key width.
        folder: a folder that is new or empty; see :func:`target`.

    Raises:
        ModelError: the model cannot be opened, is another one than the run edited, or has layers of other shapes.
        ExportError: the folder cannot be written.
        RunError: transformers refuses to write the model.
    """
    model = open_model(spec.model_copy(update={"device": "cpu"}))
    _check_model(model, spec.name, inputs)
    model.set_weights(weights)
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}-", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        model.model.save_pretrained(beside)
        model.tokenizer.save_pretrained(beside)
        os.replace(beside, folder)  # an empty folder gives way
    except OSError as error:
        raise _unwritable(folder, error) from error
    except ValueError as error:  # a configuration for generating text that transformers reads and does not write
        raise RunError(
            f"transformers does not write the model: {error}", "a model that it reads and writes", "correct its files"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_model(model: LanguageModel, name: str, inputs: Mapping[str, str]) -> None:
    """Refuse a model that is not the one of which the run's weights are an edit."""
    now = model_inputs(backbone_fingerprint(model, ()), {}, 0)
    for part, digest in now.items():
        if inputs.get(part, digest) != digest:
            digests = f"SHA-256 {inputs[part][:12]}… then, {digest[:12]}… now"
            raise ModelError(
                f"{part} of {name!r} is not what the run began with ({digests})",
                "the very model that the run edited",
                "put its files back; edited weights fit no other model",
            )


def _unwritable(folder: Path, error: OSError) -> ExportError:
    return ExportError(
        f"{folder} cannot be written: {error.strerror or error}",
        "a folder in a place that this user may write to, with space for the whole model",
        "name another folder",
    )
