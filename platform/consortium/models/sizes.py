"""The numbers of a model's configuration, checked before a model is made by them.

Names are those of all known architectures; a field that an architecture does not have is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.common.counting import count
from consortium.common.errors import ModelError

#: Field → largest value: far beyond any known model, and small enough to make a model without memory behind it.
_SIZES = {
    "hidden_size": 1 << 18,
    "n_embd": 1 << 18,
    "intermediate_size": 1 << 20,
    "n_inner": 1 << 20,
    "num_hidden_layers": 1000,
    "n_layer": 1000,
    "num_attention_heads": 1 << 12,
    "n_head": 1 << 12,
    "num_key_value_heads": 1 << 12,
    "head_dim": 1 << 14,
    "vocab_size": 1 << 24,
    "max_position_embeddings": 1 << 31,
    "n_positions": 1 << 31,
    "sliding_window": 1 << 31,
}
#: Those that may be null, and then follow from others.
_MAY_BE_NULL = ("n_inner", "num_key_value_heads", "head_dim", "sliding_window")
#: Numbers greater than 0.
_NUMBERS = (
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta", "rope_local_base_freq"),
    *("partial_rotary_factor", "query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping"),
)
_OBJECTS = ("rope_scaling", "rope_parameters", "text_config")
_REMEDY = "correct the file, or save the whole model again"


def check_sizes(config: Mapping[str, Any], place: str) -> None:
    """Refuse sizes that no model can have.

    Raises:
        ModelError: names the file, the field and what stands there.
    """
    for field in _OBJECTS:
        value = config.get(field)
        if value is not None and not isinstance(value, Mapping):
            raise _refusal(place, field, value, "an object, or null")
    for field, most in _SIZES.items():
        value = config.get(field, most)
        if value is None and field in _MAY_BE_NULL:
            continue
        if type(value) is not int or not 1 <= value <= most:
            raise _refusal(place, field, value, f"a whole number from 1 to {most:,}")
    for field, value in _numbers(config):
        if value is not None and (type(value) not in (int, float) or not 0 < value < float("inf")):
            raise _refusal(place, field, value, "a number greater than 0")
    _check_heads(config, place)
    text = config.get("text_config")
    if text is not None:
        check_sizes(text, f"{place}, text_config")


def _numbers(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = [(field, config.get(field)) for field in _NUMBERS]
    for group in ("rope_scaling", "rope_parameters"):
        inner = config.get(group) or {}
        found += [(f"{group}.{field}", inner.get(field)) for field in ("rope_theta", "factor", "partial_rotary_factor")]
    return found


def _check_heads(config: Mapping[str, Any], place: str) -> None:
    width, heads = (config.get(one, config.get(other)) for one, other in _PAIRS)
    if width is None or heads is None:
        return
    name = "num_attention_heads" if "num_attention_heads" in config else "n_head"
    if config.get("head_dim") is None and width % heads:
        raise _refusal(place, name, heads, f"a divisor of the hidden width {width}")
    shared = config.get("num_key_value_heads")
    if shared is not None and heads % shared:
        raise _refusal(place, "num_key_value_heads", shared, f"a divisor of the {count(heads, 'head')}")


_PAIRS = (("hidden_size", "n_embd"), ("num_attention_heads", "n_head"))


def _refusal(place: str, field: str, value: Any, expected: str) -> ModelError:
    text = repr(value)
    return ModelError(f"{place}, field `{field}`: {text[:60]}{'…' * (len(text) > 60)}", expected, _REMEDY)
