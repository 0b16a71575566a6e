"""Packs that are valid: the dtypes of tensors that the architecture computes."""

from typing import Any

from .model import Model, tensor
from .shown import shows
from .valid_basics import minimal


@shows("the family transformers: a Llama that was cast to bfloat16, its rotary frequencies too")
def computed() -> Model:
    config: dict[str, Any] = {"model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "vocab_size": 8}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 4}
    config |= {"bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": True}
    model = Model({"family": "transformers", "class": "LlamaForCausalLM", "config": config})
    model.stored("model.embed_tokens.weight", tensor("bfloat16", 8, 4), "embedding")
    model.tied("lm_head.weight", "model.embed_tokens.weight")
    layer = "model.layers.0."
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        model.adapted(f"{layer}self_attn.{name}.weight", [4, 4], "bfloat16", adapter_dtype="bfloat16")
    for name, shape in {"gate_proj": [6, 4], "up_proj": [6, 4], "down_proj": [4, 6]}.items():
        model.seeded(f"{layer}mlp.{name}.weight", shape, "bfloat16")
    for norm in (f"{layer}input_layernorm", f"{layer}post_attention_layernorm", "model.norm"):
        model.constant(f"{norm}.weight", [4], "bfloat16", "3f80")
    model.descriptor["computed"] = {
        "model.rotary_emb.inv_freq": "bfloat16",
        "model.rotary_emb.original_inv_freq": "bfloat16",
    }
    return model


@shows("10,000 computed tensors, in every floating dtype", buildable=False)
def most_computed() -> Model:
    model = minimal()
    kinds = ("float64", "float32", "bfloat16", "float16")
    model.descriptor["computed"] = {f"t{number}": kinds[number % 4] for number in range(10_000)}
    return model
