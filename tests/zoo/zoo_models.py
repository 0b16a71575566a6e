"""The models of the zoo: transformers classes with tiny configurations, and modules of torch layers."""

from typing import Any

import torch
from torch import nn
from zoo_runs import inputs_for

import lottapack

TEXT = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
KEYS = {**TEXT, "num_key_value_heads": 2}
TWO = {**KEYS, "num_hidden_layers": 2}
BOTH = {**TWO, "layer_types": ["linear_attention", "full_attention"]}
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
LATENT = {"kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
WINDOWS = {
    "image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 4,
    "drop_path_rate": 0.0,
}  # fmt: skip
SPEECH = {
    **TEXT, "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "layerdrop": 0.0,
    "classifier_proj_size": 8,
}  # fmt: skip
T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
BART = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
MAMBA = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}

TRANSFORMERS: dict[str, dict[str, Any]] = {
    # Language: decoders.
    "LlamaForCausalLM": KEYS,
    "MistralForCausalLM": KEYS,
    "Qwen2ForCausalLM": KEYS,
    "PhiForCausalLM": KEYS,
    "Gemma2ForCausalLM": {**TWO, "head_dim": 8},
    "Gemma3ForCausalLM": {**TWO, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "GPT2LMHeadModel": {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "GPTNeoXForCausalLM": TEXT,
    "BloomForCausalLM": {"vocab_size": 64, "hidden_size": 16, "n_layer": 1, "n_head": 2},
    "OPTForCausalLM": {**TEXT, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "XLNetForSequenceClassification": {"vocab_size": 64, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24},
    # Mixtures of experts.
    "MixtralForCausalLM": {**KEYS, "num_local_experts": 2, "num_experts_per_tok": 2},
    "Qwen2MoeForCausalLM": {**KEYS, **EXPERTS, "shared_expert_intermediate_size": 8},
    "GptOssForCausalLM": {**TWO, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 2,
                          "layer_types": ["sliding_attention", "full_attention"]},
    "DeepseekV3ForCausalLM": {**TWO, **LATENT, "q_lora_rank": 8, "n_routed_experts": 2, "num_experts_per_tok": 2,
                              "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 8},
    "Llama4ForCausalLM": {**TWO, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1,
                          "intermediate_size_mlp": 24, "interleave_moe_layer_step": 2},
    # State spaces and linear attention.
    "MambaForCausalLM": MAMBA,
    "Mamba2ForCausalLM": {**MAMBA, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 8,
                          "time_step_limit": (0.0, 100.0)},
    "FalconMambaForCausalLM": MAMBA,
    "JambaForCausalLM": {**TWO, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
                         "expert_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 2, "mamba_d_state": 4,
                         "mamba_dt_rank": 2, "use_mamba_kernels": False},
    "Qwen3NextForCausalLM": {**BOTH, **LINEAR, **EXPERTS, "head_dim": 8, "shared_expert_intermediate_size": 8},
    "Lfm2MoeForCausalLM": {**TWO, **EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "OlmoHybridForCausalLM": {**BOTH, **LINEAR},
    "KimiLinearForCausalLM": {**BOTH, **LATENT, "num_experts": 2, "num_experts_per_token": 2,
                              "moe_intermediate_size": 8, "mlp_layer_types": ["dense", "sparse"],
                              "linear_head_dim": 8, "linear_num_heads": 2},
    "RwkvForCausalLM": {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16,
                        "intermediate_size": 24, "context_length": 16, "rescale_every": 0},
    # Encoders.
    "BertForSequenceClassification": TEXT,
    "BertForMaskedLM": TEXT,
    "RobertaForSequenceClassification": TEXT,
    "AlbertForSequenceClassification": {**TEXT, "embedding_size": 8},
    "ElectraForSequenceClassification": {**TEXT, "embedding_size": 16},
    "DistilBertForSequenceClassification": {"vocab_size": 64, "dim": 16, "hidden_dim": 24, "n_layers": 1, "n_heads": 2},
    "DebertaV2ForSequenceClassification": {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                                           "max_relative_positions": 8, "pooler_hidden_size": 16},
    "ModernBertForSequenceClassification": {**TEXT, "cls_token_id": 1, "sep_token_id": 2},
    # From one sequence to another.
    "T5ForConditionalGeneration": T5,
    "MT5ForConditionalGeneration": {**T5, "feed_forward_proj": "gated-gelu"},
    "BartForConditionalGeneration": BART,
    "PegasusForConditionalGeneration": BART,
    # Vision.
    "ViTForImageClassification": VISION,
    "DeiTForImageClassification": VISION,
    "BeitForImageClassification": VISION,
    "Dinov2ForImageClassification": {**VISION, "mlp_ratio": 2},
    "DINOv3ViTModel": VISION,
    "SwinForImageClassification": WINDOWS,
    "Swinv2ForImageClassification": WINDOWS,
    "ConvNextForImageClassification": {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "image_size": 16,
                                       "patch_size": 2},
    "ResNetForImageClassification": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1],
                                     "layer_type": "basic", "image_size": 16},
    "SegformerForSemanticSegmentation": {
        "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "image_size": 16,
        "patch_sizes": [3, 3], "strides": [2, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2],
        "decoder_hidden_size": 8, "drop_path_rate": 0.0},
    "YolosForObjectDetection": {**VISION, "image_size": [16, 16], "num_detection_tokens": 3},
    # Sound.
    "WhisperModel": {**BART, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
    "Wav2Vec2ForCTC": SPEECH,
    "HubertForSequenceClassification": SPEECH,
    "WavLMForSequenceClassification": {**SPEECH, "num_buckets": 8, "max_bucket_distance": 16},
    "SpeechT5ForSpeechToText": {
        **SPEECH, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_text_positions": 32, "max_speech_positions": 64,
        "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "encoder_max_relative_position": 8},
    # Pictures and words.
    "CLIPModel": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 8},
    "SiglipModel": {"text_config": {**TEXT, "projection_size": 16}, "vision_config": VISION},
    "BlipForConditionalGeneration": {"text_config": {**TEXT, "encoder_hidden_size": 16}, "vision_config": VISION,
                                     "projection_dim": 8, "image_text_hidden_size": 8},
    "LlavaForConditionalGeneration": {
        "text_config": {**KEYS, "model_type": "llama"}, "vision_config": {**VISION, "model_type": "clip_vision_model"},
        "image_token_index": 3, "vision_feature_layer": -1},
}  # fmt: skip


class Encoder(nn.Module):
    """torch's own layers for transformers, with their fast path."""

    def __init__(self, norm_first: bool = False):
        super().__init__()
        self.first = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
        self.last = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(self.first(x)))


class Attention(nn.Module):
    """Attention, by torch's own module, of one sequence to itself and to another of another width."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.own = nn.MultiheadAttention(16, 2, batch_first=True)
        self.other = nn.MultiheadAttention(16, 2, batch_first=True, kdim=8, vdim=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        hidden = hidden + self.own(hidden, hidden, hidden, need_weights=False)[0]
        return self.other(hidden, x, x)[0]


class Translator(nn.Module):
    """torch's own encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.both = nn.Transformer(16, 2, 1, 1, 24, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.both(hidden, hidden.flip(1))


class Recurrent(nn.Module):
    """An LSTM and a GRU, whose weights are trained in full, between layers with adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.gru(self.lstm(self.first(x))[0])[0])


class Convolutions(nn.Module):
    """Convolutions of one, two and three dimensions: with groups, dilated, padded as "same"."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(5, 8, 3, padding="same")
        self.two = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8))
        self.three = nn.Conv3d(1, 4, 3, dilation=(1, 2, 1), padding=2)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.two(self.one(x)[:, None])
        return self.last(self.three(hidden[:, None]).mean(2))


TORCH: dict[str, dict[str, Any]] = {
    "Encoder": {},
    "Encoder:norm_first": {"norm_first": True},
    "Attention": {},
    "Translator": {},
    "Recurrent": {},
    "Convolutions": {},
}

TIMM: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 16, "patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2},
    "eva02_tiny_patch14_224": {"img_size": 16, "patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2},
    "vit_small_patch16_dinov3": {"img_size": 16, "patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2},
    "swinv2_tiny_window8_256": {"img_size": 16, "patch_size": 2, "window_size": 4, "depths": (2, 1),
                                "num_heads": (2, 2), "embed_dim": 8, "drop_path_rate": 0.0},
    "resnet10t": {},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A model and inputs for it."""
    torch.manual_seed(1)
    if name in TORCH:
        model = lottapack.build("python", f"zoo_models:{name.partition(':')[0]}", **TORCH[name])
        return model, {"x": torch.randn(2, 5, 8)}
    if name in TIMM:
        side = TIMM[name].get("img_size", 32)
        return lottapack.build("timm", name, num_classes=4, **TIMM[name]), {"x": torch.randn(2, 3, side, side)}
    import transformers

    kind = getattr(transformers, name)
    config = kind.config_class(**TRANSFORMERS[name])
    for part in (config, *(getattr(config, sub) for sub in config.sub_configs)):
        for field, value in part.to_dict().items():
            if isinstance(value, float) and "drop" in field:
                setattr(part, field, 0.0)
    model = kind(config)
    return model, inputs_for(model)
