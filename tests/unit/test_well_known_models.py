"""Plain scaffold() has a plan for well-known models of transformers at their default configurations, on meta."""

import warnings

import pytest
import torch
import transformers

from lottapack import arch
from lottapack.format.recipe import AdaptedRecipe
from lottapack.nn.planning import Planner
from lottapack.nn.scales import Width, tables_of
from lottapack.nn.select import entries_of

LANGUAGE = (
    *("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "PhiForCausalLM"),
    *("Phi3ForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3nForCausalLM"),
    *("GPT2LMHeadModel", "GPTNeoXForCausalLM", "GPTJForCausalLM", "BloomForCausalLM", "OPTForCausalLM"),
    *("FalconForCausalLM", "MptForCausalLM", "CohereForCausalLM", "OlmoForCausalLM", "SmolLM3ForCausalLM"),
)
EXPERTS = (
    *("MixtralForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM"),
    *("DeepseekV3ForCausalLM", "Llama4ForCausalLM", "OlmoeForCausalLM", "Qwen3NextForCausalLM"),
)
STATE_SPACES = (
    *("MambaForCausalLM", "Mamba2ForCausalLM", "FalconMambaForCausalLM", "FalconH1ForCausalLM"),
    *("JambaForCausalLM", "BambaForCausalLM", "RwkvForCausalLM", "RecurrentGemmaForCausalLM"),
)
OTHERS = (
    *("BertForMaskedLM", "RobertaForMaskedLM", "DistilBertForMaskedLM", "AlbertForMaskedLM", "DebertaV2ForMaskedLM"),
    *("ModernBertForMaskedLM", "T5ForConditionalGeneration", "BartForConditionalGeneration"),
    *("ViTForImageClassification", "Swinv2ForImageClassification", "ConvNextForImageClassification"),
    *("ResNetForImageClassification", "DINOv3ViTModel", "CLIPModel", "SiglipModel", "BlipForConditionalGeneration"),
    *("WhisperForConditionalGeneration", "Wav2Vec2ForCTC", "HubertForCTC", "YolosForObjectDetection"),
)
MODELS = (*LANGUAGE, *EXPERTS, *STATE_SPACES, *OTHERS)
assert len(MODELS) == 56

FEWER = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
"""Numbers of layers, which are alike: at most four, so that a plan takes a moment. All else is the default."""


def built(name):
    kind = getattr(transformers, name)
    whole = kind.config_class().to_dict()
    fewer = {field: min(whole[field], 4) for field in FEWER if isinstance(whole.get(field), int)}
    with torch.device("meta"):
        try:
            return kind(kind.config_class(**fewer))
        except ValueError:  # its layers are not alike
            return kind(kind.config_class())


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_of_rank_8(name):
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = built(name)
        arch.describe(model)
        entries = entries_of(model)
        plan = Planner(8, None, "lora", tables_of("normal16"), Width(), True).plan(entries, None, None)
    assert any(isinstance(role, AdaptedRecipe) for role in plan.values())
