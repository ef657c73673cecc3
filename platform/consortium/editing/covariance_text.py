"""Texts of the key covariance: sampled from the model, or read from the beginning of a file or data set.

Shapes: B texts, T tokens.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from consortium.common.counting import count
from consortium.common.errors import InputError, whole_reason
from consortium.common.reading import UnreadableError, open_file, prose_fault
from consortium.common.seeds import numpy_generator, torch_generator
from consortium.models.language import LanguageModel
from consortium.models.sampling import OPENERS, sample_tokens
from consortium.models.tokens import encode
from consortium.scenario.editor import CovarianceSpec

#: Tokens of one text, unless the model reads fewer.
TEXT_TOKENS = 64
#: Sampled text depends on the model alone: runs of any seed share one key covariance.
SAMPLING_SEED = 20250607
#: Characters that are read for each token wanted of a named text: a large corpus is neither read nor tokenised whole.
_CHARACTERS_PER_TOKEN = 16
#: Tokens of a text that are looked at before a model is opened, where the scenario names no number.
_TOKENS_LOOKED_AT = 4096
#: Of a corpus only the beginning is read: a large one is no fault.
_MOST_BYTES = 1 << 45


def text_tokens(model: LanguageModel) -> int:
    """Tokens of one text for a model."""
    return min(TEXT_TOKENS, model.reading.max_tokens)


def sampled_texts(model: LanguageModel, chunk: int, num_texts: int) -> torch.Tensor:
    """Texts [B, T] that the model writes after common openers; another chunk's are others."""
    openers = numpy_generator(SAMPLING_SEED, "prior-openers", chunk).integers(len(OPENERS), size=num_texts)
    length = text_tokens(model)
    starts = [encode(model.tokenizer, OPENERS[number], with_start=True)[:length] for number in openers]
    generator = torch_generator(SAMPLING_SEED, "prior-text", chunk)
    return sample_tokens(model, starts, length, generator, dtype=sampling_dtype(model))


def sampling_dtype(model: LanguageModel) -> torch.dtype:
    """The type in which text is sampled: bfloat16 on processors that multiply its matrices in hardware.

    Text of a slightly rounded model is ordinary text as well, and its keys are read in the model's own type. While
    text is sampled, such a process holds a second copy of the weights, half as large as the first.
    """
    # Older versions of torch do not say what the processor can do.
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    is_quick = model.device.type == "cpu" and known.get("amx_bf16") is True
    return torch.bfloat16 if is_quick and model.dtype == torch.float32 else model.dtype


def named_texts(model: LanguageModel, spec: CovarianceSpec, wanted: int) -> torch.Tensor:
    """Texts [B, T] cut from a named source, as many as hold ``wanted`` tokens.

    Raises:
        InputError: the source cannot be read or is too short.
    """
    ids = encode(model.tokenizer, read_covariance_text(spec, wanted), with_start=True)
    length = text_tokens(model)
    num_texts = -(-wanted // length)
    if len(ids) < num_texts * length:
        raise InputError(
            f"editor.covariance.source: {spec.source} holds {len(ids)} tokens",
            f"at least {count(num_texts * length, 'token')}",
            "name a longer text, lower editor.covariance.tokens, or use `model` to sample text from the model",
        )
    return torch.tensor(ids[: num_texts * length]).view(num_texts, length)


def check_source(spec: CovarianceSpec) -> None:
    """Read the beginning of a named file; a data set is read when the key covariance is measured.

    Raises:
        InputError: the file cannot be read, is empty, or holds no text.
    """
    if spec.source != "model" and not spec.source.startswith("hub:"):
        read_covariance_text(spec, spec.tokens or _TOKENS_LOOKED_AT)


def read_covariance_text(spec: CovarianceSpec, wanted: int) -> str:
    """The beginning of a named source, long enough for ``wanted`` tokens.

    Raises:
        InputError: the source cannot be read, is empty, or holds no text.
    """
    num_characters = _CHARACTERS_PER_TOKEN * wanted
    if spec.source.startswith("hub:"):
        text = _read_hub(spec.source.removeprefix("hub:"), spec.split, num_characters)
    else:
        text = _read_file(Path(spec.source), num_characters)
    fault = prose_fault(text)
    if fault is not None:
        raise InputError(
            f"editor.covariance.source: {spec.source} {fault}",
            "text as the model knows it",
            "name another text, or use `model` to sample text from the model",
        )
    return text


def _read_file(path: Path, num_characters: int) -> str:
    try:
        with open_file(path, _MOST_BYTES) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
            return text.read(num_characters)
    except (UnreadableError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"editor.covariance.source: {path}: {error}", "a UTF-8 text file", "check the path, or use `model`"
        ) from error


def _read_hub(name: str, split: str, num_characters: int) -> str:
    # Imported here: it takes seconds, and only this source needs it.
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        dataset = load_dataset(name, split=split)
    except Exception as error:
        # Builders of many kinds raise errors of many kinds.
        raise InputError(
            f"editor.covariance.source: the dataset {name!r} cannot be opened: {whole_reason(error)}",
            "a dataset that `datasets.load_dataset` opens, with a column `text`",
            "check the name and the network, or name a text file",
        ) from error
    if "text" not in dataset.column_names:
        raise InputError(
            f"editor.covariance.source: {name!r} has the columns {', '.join(dataset.column_names)}",
            "a column `text`",
            "choose another dataset, or save its text to a file and name that",
        )
    texts: list[str] = []
    missing = num_characters
    for text in dataset.select_columns("text"):
        texts.append(str(text["text"] or "")[:missing])
        missing -= len(texts[-1]) + 1
        if missing <= 0:
            break
    return "\n".join(texts)
