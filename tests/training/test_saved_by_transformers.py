"""transformers saves some models under other names, and experts one by one."""

import pytest
import torch
from models import all_bits
from torch import nn
from training_models import BUILD, SIZE, logits

import lottapack
from lottapack.errors import CheckpointError

PACK = "model.lotta.safetensors"
SHAPE = {
    **SIZE,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
DEEPSEEK = {
    "n_routed_experts": 2,
    "moe_intermediate_size": 8,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 0,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
MIXTURES = {
    "Mixtral": {"num_local_experts": 2},
    "Qwen2Moe": {"num_experts": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8},
    "Qwen3Moe": {"num_experts": 2, "moe_intermediate_size": 8, "head_dim": 8},
    "DeepseekV3": DEEPSEEK,
    "GptOss": {"num_local_experts": 2, "head_dim": 8},
    "Olmoe": {"num_experts": 2},
}


def mixture(kind: str, **options: object) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SHAPE, **MIXTURES[kind])
    model = lottapack.scaffold(getattr(transformers, f"{kind}ForCausalLM")(config), seed=1, rank=2, **options)
    return change(model)


def change(model: nn.Module) -> nn.Module:
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    return model


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_saved_mixture_of_experts_packs_to_the_bytes_of_the_live_one(kind, tmp_path):
    model = mixture(kind)
    model.save_pretrained(tmp_path / "saved")
    expected = lottapack.pack(model, tmp_path / PACK)
    assert lottapack.pack(tmp_path / "saved", tmp_path / PACK, files=False).sha256 == expected.sha256


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_saved_plain_mixture_packs_to_the_bytes_of_the_live_one(kind, tmp_path):
    """Also merged weights and weights drawn by the library, which lack a recipe."""
    lottapack.pack(mixture(kind), tmp_path / PACK)
    merged = lottapack.load(tmp_path / PACK, merge=True)
    merged.save_pretrained(tmp_path / "merged")
    live, folder = (
        lottapack.pack(
            lottapack.recover.merged(given, seed=1, max_rank=2, architecture=merged), tmp_path / PACK, files=False
        )
        for given in (merged, tmp_path / "merged")
    )
    assert folder.sha256 == live.sha256
    assert {layer.role for layer in folder.layers} >= {"adapted"}
    torch.manual_seed(5)
    drawn = type(merged)(merged.config)
    drawn.save_pretrained(tmp_path / "drawn")
    live, folder = (
        lottapack.pack(lottapack.recover.torch_cpu(given, seed=5, architecture=drawn), tmp_path / PACK, files=False)
        for given in (drawn, tmp_path / "drawn")
    )
    assert folder.sha256 == live.sha256


def test_a_plain_mixture_that_lacks_an_expert_is_named(tmp_path):
    from safetensors.torch import load_file

    lottapack.pack(mixture("Mixtral"), tmp_path / PACK)
    merged = lottapack.load(tmp_path / PACK, merge=True)
    merged.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state[next(name for name in state if ".experts.1." in name)]
    with pytest.raises(CheckpointError, match="experts"):
        lottapack.pack(lottapack.recover.merged(state, seed=1, max_rank=2, architecture=merged), tmp_path / PACK)


def test_a_mixture_of_experts_resumes_from_what_was_saved(tmp_path):
    """The Trainer gives a saved folder's tensors to load_state_dict and ignores missing ones."""
    from safetensors.torch import load_file

    trained, fresh = mixture("Mixtral"), mixture("Mixtral")
    trained.save_pretrained(tmp_path)
    change(fresh)
    assert all_bits(fresh) != all_bits(trained)
    left = fresh.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert (left.missing_keys, left.unexpected_keys) == ([], [])
    assert all_bits(fresh) == all_bits(trained)


def test_a_part_of_another_size_is_named(tmp_path):
    from safetensors.torch import load_file

    mixture("Mixtral", train=["*.experts.*"]).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = next(name for name in state if ".experts.1." in name)
    with pytest.raises(CheckpointError, match="experts"):
        lottapack.pack({**state, name: torch.zeros(3, 5)}, tmp_path / PACK)
    del state[name]
    with pytest.raises(CheckpointError, match="experts"):
        lottapack.pack(state, tmp_path / PACK)


EMBEDDINGS = {"llama": ["*.embed_tokens", "*_proj"], "gpt2": ["*wte", "*c_attn"]}


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("backbone", ["materialised", "blocks"])
def test_tying_once_more_changes_nothing(name, adapted, backbone, tmp_path):
    """transformers and accelerate call tie_weights() in many places."""
    options = {"targets": EMBEDDINGS[name], "train": ["norms", "biases", "rest"]} if adapted else {}
    model = BUILD[name](tie_word_embeddings=True)
    model = change(lottapack.scaffold(model, seed=1, rank=2, **options))
    expected = logits(model, name)
    assert type(model)._tied_weights_keys is not None
    for recompute in (True, False):
        model.tie_weights(recompute_mapping=recompute)
    model.set_input_embeddings(model.get_input_embeddings())
    assert torch.equal(logits(model, name), expected)
    lottapack.pack(model, tmp_path / PACK)
    loaded = lottapack.load(tmp_path / PACK, backbone=backbone)
    expected = logits(loaded, name)
    loaded.tie_weights()
    assert torch.equal(logits(loaded, name), expected)
    tied = loaded.get_output_embeddings()
    with torch.no_grad():
        next(p for p in loaded.get_input_embeddings().parameters()).add_(1)
    assert not torch.equal(logits(loaded, name), expected)
    assert tied is loaded.get_output_embeddings()
    merged = lottapack.load(tmp_path / PACK, merge=True)
    expected = logits(merged, name)
    merged.tie_weights()
    assert torch.equal(logits(merged, name), expected)
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_that_was_widened_is_refused_until_it_is_cast_back(dtype, tmp_path):
    model = change(lottapack.scaffold(BUILD["gpt2"]().to(dtype), seed=1, rank=2))
    with pytest.raises(CheckpointError, match=r"is float32 now, but was b?float16 at scaffold") as caught:
        lottapack.pack(model.float(), tmp_path / PACK)
    assert f"model.to({dtype})" in str(caught.value)
    assert not (tmp_path / PACK).exists()
    lottapack.pack(model.to(dtype), tmp_path / PACK)
    assert torch.equal(logits(lottapack.load(tmp_path / PACK), "gpt2"), logits(model, "gpt2"))
