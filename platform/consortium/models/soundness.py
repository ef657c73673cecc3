"""Whether a model's numbers are finite, looked at before anything is made of them.

Two looks: one pass over all weights, and one run over a few ordinary sentences. The first finds a damaged file, and
weights beyond what float16 can hold; the second a model whose hidden states are, which shows on nearly every text.
A token whose whole input embedding is not finite has none, as tokens that no text was trained on: texts with it have no
answer, and all others have theirs.
"""

from __future__ import annotations

import torch

from consortium.common.errors import ModelError
from consortium.models.language import LanguageModel
from consortium.models.tokens import encode

#: Ordinary text. One of them may hold a token that is bad by itself; a model is refused when two are not finite.
SENTENCES = (
    "The capital of France is Paris.",
    "In 1999 the company opened its first office by the river.",
    "She wrote a letter to her mother and went home.",
)
_WIDER = "set model.dtype to bfloat16 or float32, whose range is wider"


def check_soundness(model: LanguageModel, name: str) -> None:
    """Refuse a model whose weights, or whose logits on ordinary text, are not finite.

    Raises:
        ModelError: they are not; it names the first such weight, or the type that the model computes in.
    """
    _check_weights(model, name)
    num_bad = sum(not is_finite_on(model, text) for text in SENTENCES)
    if 2 * num_bad > len(SENTENCES):
        dtype = _dtype_name(model)
        raise ModelError(
            f"the logits of {name!r} are not finite in {dtype} ({num_bad} of {len(SENTENCES)} ordinary sentences)",
            "a model whose numbers stay within the range of its type",
            "use bfloat16 or float32 (model.dtype), whose range is wider"
            if model.dtype == torch.float16
            else "save or download the model again; if transformers shows the same, the model is of no use",
        )


def _check_weights(model: LanguageModel, name: str) -> None:
    embedding = model.model.get_input_embeddings().weight
    for each, parameter in model.model.named_parameters():
        if parameter is embedding and _lacks_tokens_only(parameter):
            continue
        if parameter.is_floating_point() and parameter.numel() and not is_finite_model(parameter):
            if model.dtype == torch.float16 and not bool(parameter.isnan().any()):
                raise ModelError(
                    f"the weights of {name!r} are not finite in float16 ({each})",
                    f"numbers up to {torch.finfo(torch.float16).max:.0f}, the largest of float16",
                    _WIDER,
                )
            raise ModelError(
                f"the weights of {name!r} are not finite ({each})",
                "finite numbers in every tensor",
                "save the whole model again, or download it again",
            )


def _lacks_tokens_only(embedding_NV: torch.Tensor) -> bool:
    """Whether every row of an embedding is finite or has nothing that is, and some are finite."""
    if is_finite_model(embedding_NV):
        return True
    finite_NV = embedding_NV.isfinite()
    has_N = finite_NV.any(1)
    return bool(has_N.any()) and bool((has_N == finite_NV.all(1)).all())


def is_finite_model(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor is finite: one pass, and no second tensor of its size."""
    # A minimum or maximum of anything that has a NaN is NaN.
    return all(bool(end.isfinite()) for end in torch.aminmax(tensor.detach()))


@torch.inference_mode()
def is_finite_on(model: LanguageModel, text: str) -> bool:
    """Whether the logits of a text's tokens have a finite largest one; minus infinity is a token that is never said."""
    tokens = encode(model.tokenizer, text, with_start=True)[: model.reading.max_tokens]
    ids = torch.tensor([tokens], device=model.device)
    hidden_BTV = model.base(input_ids=ids, use_cache=False).last_hidden_state
    return bool(model.logits(hidden_BTV).amax(-1).isfinite().all())


def _dtype_name(model: LanguageModel) -> str:
    return str(model.dtype).removeprefix("torch.")
