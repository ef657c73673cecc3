"""A pico model written as a GGUF file, the way llama.cpp names things."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
from support.pico import pico_model

#: Name in transformers → name in llama.cpp, within a block.
_IN_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_pico_gguf(path: Path) -> Path:
    """Write ``pico_model("qwen2")`` in float32, with its tokenizer."""
    pico = pico_model("qwen2")
    config = pico.model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("pico")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    described = json.loads(pico.tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    tokens = sorted(described["vocab"], key=described["vocab"].get)
    writer.add_token_list([*tokens, *(f"<unused {number}>" for number in range(len(tokens), config.vocab_size))])
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    for name, weight in pico.model.state_dict().items():
        writer.add_tensor(_gguf_name(name), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{kind}"
    _, _, number, inside = module.split(".", 3)
    return f"blk.{number}.{_IN_BLOCK[inside]}.{kind}"
