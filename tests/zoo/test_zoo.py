"""Small models of many kinds: every adapter is reached, and what comes back computes what was trained."""

import pytest
import torch
from zoo_runs import adapted, inputs_for, reached, run, step

import lottapack

TEXT = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
KEYS = {**TEXT, "num_key_value_heads": 2}
VISION = {**{k: v for k, v in TEXT.items() if k != "vocab_size"}, "image_size": 16, "patch_size": 8}
SPEECH = {
    "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "layerdrop": 0.0,
}  # fmt: skip
T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
BART = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
}  # fmt: skip
MAMBA = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}

MODELS = {
    "LlamaForCausalLM": KEYS,
    "MistralForCausalLM": KEYS,
    "Qwen2ForCausalLM": KEYS,
    "GPT2LMHeadModel": {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "GPTNeoXForCausalLM": TEXT,
    "OPTForCausalLM": {"vocab_size": 64, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "word_embed_proj_dim": 16},
    "MixtralForCausalLM": {**KEYS, "num_local_experts": 2, "num_experts_per_tok": 2},
    "MambaForCausalLM": MAMBA,
    "FalconMambaForCausalLM": MAMBA,
    "BertForSequenceClassification": TEXT,
    "RobertaForSequenceClassification": TEXT,
    "ElectraForSequenceClassification": {**TEXT, "embedding_size": 16},
    "DistilBertForSequenceClassification": {"vocab_size": 64, "dim": 16, "hidden_dim": 24, "n_layers": 1, "n_heads": 2},
    "T5ForConditionalGeneration": T5,
    "BartForConditionalGeneration": BART,
    "ViTForImageClassification": VISION,
    "BeitForImageClassification": VISION,
    "ResNetForImageClassification": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
                                     "layer_type": "basic"},
    "WavLMForSequenceClassification": {**TEXT, **SPEECH, "num_buckets": 8, "max_bucket_distance": 16},
    "Wav2Vec2ForSequenceClassification": {**TEXT, **SPEECH},
    "WhisperModel": {**BART, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16,
                     "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    "CLIPModel": {"text_config": {**TEXT, "max_position_embeddings": 16}, "vision_config": VISION,
                  "projection_dim": 8},
}  # fmt: skip


def build(name):
    torch.manual_seed(1)
    if name == "Encoder":
        return lottapack.build("python", "zoo_runs:Encoder"), {"x": torch.randn(2, 5, 8)}
    import transformers

    kind = getattr(transformers, name)
    config = kind.config_class(**MODELS[name])
    for field, value in config.to_dict().items():
        if isinstance(value, float) and "drop" in field:
            setattr(config, field, 0.0)
    model = kind(config)
    return model, inputs_for(model)


def near(one, other, bound):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.float() - b.float()).abs().max() <= bound * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("name", [*MODELS, "Encoder"])
@pytest.mark.filterwarnings("ignore")
def test_every_adapter_is_reached_and_comes_back(name, tmp_path):
    model, inputs = build(name)
    step(model, inputs)
    used = reached(model)
    model.zero_grad(set_to_none=True)
    model = lottapack.scaffold(model, seed=3, rank=2)
    layers = adapted(model)
    assert layers
    step(model, inputs)
    assert reached(model, "lora_B") >= layers & used
    assert reached(model, "beta") >= layers & used
    with torch.no_grad():
        before = run(model.eval(), inputs)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.05)
        trained = run(model.train(), inputs)
        calm = run(model.eval(), inputs)
    assert any(not torch.equal(a, b) for a, b in zip(before, calm, strict=True))
    near(run(model, inputs), calm, 1e-5)  # with gradients, where torch takes no fast path
    lottapack.pack(model, tmp_path / "p")
    allow = ["zoo_runs"] if name == "Encoder" else ()
    with torch.no_grad():
        loaded = lottapack.load(tmp_path / "p", allow=allow)
        near(run(loaded, inputs), calm, 0.0)
        near(run(loaded.train(), inputs), trained, 0.0)
        near(run(lottapack.load(tmp_path / "p", allow=allow, merge=True), inputs), calm, 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        model.zero_grad(set_to_none=True)
        step(model, inputs)
    assert {n for n, p in model.named_parameters() if "lora_B" in n and p.grad is None} == {
        f"{layer}.lora_B" for layer in layers - used
    }
