"""Plans of scaffold() for large mixtures of experts on meta: sizes of their packs."""

import pytest
import torch
import transformers

from lottapack import arch
from lottapack.format.factors import adapter_shapes
from lottapack.format.recipe import AdaptedRecipe, StoredRecipe, TiedRecipe
from lottapack.format.shapes import numel
from lottapack.nn.planning import Planner
from lottapack.nn.scales import Width, tables_of
from lottapack.nn.select import entries_of

KEPT = ("embedding", "head", "norm", "bias", "buffer")


def planned(kind, config):
    """Return the entries of a model on meta, with roles."""
    with torch.device("meta"):
        model = getattr(transformers, kind)(config)
    entries = entries_of(model, arch.family_of(model).heads(model))
    return entries, Planner(8, None, "lora", tables_of("normal16"), Width(), True).plan(entries, None, None)


def mixtral():
    sizes = {"vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 3584, "num_local_experts": 8}
    layers = {"num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 8}
    return transformers.MixtralConfig(**sizes, **layers)


def test_a_mixtral_of_a_billion_parameters():
    entries, plan = planned("MixtralForCausalLM", mixtral())
    total = packed = 0
    for entry in entries:
        role = plan[entry.name]
        if entry.group in ("embedding", "head") or isinstance(role, TiedRecipe):
            continue
        total += entry.tensor.numel()
        if isinstance(role, StoredRecipe):
            packed += entry.tensor.numel()
        elif isinstance(role, AdaptedRecipe):
            packed += sum(numel(adapter_shapes(role)[part]) for part in role.parts)
    assert total > 1_000_000_000
    assert packed / total <= 0.03


MODELS = {
    "MixtralForCausalLM": mixtral,
    "Qwen3MoeForCausalLM": lambda: transformers.Qwen3MoeConfig(num_hidden_layers=2),
    "GptOssForCausalLM": lambda: transformers.GptOssConfig(num_hidden_layers=2),
    "Llama4ForCausalLM": lambda: transformers.Llama4TextConfig(num_hidden_layers=2),
    "DeepseekV32ForCausalLM": lambda: transformers.DeepseekV32Config(num_hidden_layers=4),
    "Qwen3NextForCausalLM": lambda: transformers.Qwen3NextConfig(num_hidden_layers=4),
}


@pytest.mark.parametrize("kind", MODELS)
def test_experts_are_adapted_by_default(kind):
    if not hasattr(transformers, kind):
        pytest.skip(f"this transformers has no {kind}")
    entries, plan = planned(kind, MODELS[kind]())
    in_full = [
        entry
        for entry in entries
        if isinstance(plan[entry.name], StoredRecipe) and entry.group not in KEPT and entry.tensor.dim() > 1
    ]
    # Depthwise kernels of four inputs, and the gate of the shared expert, of one output: narrower than the rank.
    narrow = ("linear_attn.conv1d.weight", "shared_expert_gate.weight") if kind == "Qwen3NextForCausalLM" else ()
    assert [entry.name for entry in in_full if not entry.name.endswith(narrow)] == []
    total = sum(entry.tensor.numel() for entry in entries if not entry.tied)
    assert sum(entry.tensor.numel() for entry in in_full) / total < 2e-5
    assert any(isinstance(role, AdaptedRecipe) and role.batch_dims for role in plan.values())
