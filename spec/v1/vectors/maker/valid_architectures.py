"""Packs that are valid: module trees and the other families."""

from .model import Model, linear, sequential, tensor
from .shown import shows


@shows("a convolution with an adapter, and a batch norm with its buffers, one of them without dimensions")
def convolution() -> Model:
    config = {"in_channels": 2, "out_channels": 3, "kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0]}
    config |= {"dilation": [1, 1], "groups": 1, "bias": True, "padding_mode": "zeros"}
    norm = {"num_features": 3, "eps": 1e-05, "momentum": 0.1, "affine": True, "track_running_stats": True}
    model = Model(sequential(("Conv2d", config), ("BatchNorm2d", norm), ("ReLU", {"inplace": True})))
    model.adapted("0.weight", [3, 2, 2, 2], rank=2)
    model.stored("0.bias", tensor("float32", 3), "bias")
    model.constant("1.weight", [3], "float32", "3f800000")
    model.stored("1.bias", tensor("float32", 3), "norm")
    model.stored("1.running_mean", tensor("float32", 3), "buffer", trained=False)
    model.stored("1.running_var", tensor("float32", 3, first=15), "buffer", trained=False)
    model.stored("1.num_batches_tracked", tensor("int64", first=6), "buffer", trained=False)
    return model


@shows("Sequentials in a Sequential, and a name that is no number")
def nested() -> Model:
    inner = sequential(linear(2, 3, bias=False), ("Tanh", {}), names=["first", "act"])
    tree = sequential(("Sequential", inner["config"]), linear(3, 2, bias=False), names=["body", "head"])
    model = Model(tree)
    model.seeded("body.first.weight", [3, 2])
    model.stored("head.weight", tensor("float32", 2, 3), "head")
    return model


@shows("the family transformers: GPT-2 with one layer; Conv1D weights are (in, out); the head is tied")
def transformers_gpt2() -> Model:
    config = {"model_type": "gpt2", "n_embd": 4, "n_head": 1, "n_layer": 1, "n_positions": 4, "vocab_size": 8}
    config |= {"bos_token_id": 0, "eos_token_id": 0}
    model = Model({"family": "transformers", "class": "GPT2LMHeadModel", "config": config})
    model.stored("transformer.wte.weight", tensor("float32", 8, 4), "embedding")
    model.seeded("transformer.wpe.weight", [4, 4])
    sizes = {"attn.c_attn": (4, 12), "attn.c_proj": (4, 4), "mlp.c_fc": (4, 16), "mlp.c_proj": (16, 4)}
    for layer, (d_in, d_out) in sizes.items():
        model.adapted(f"transformer.h.0.{layer}.weight", [d_in, d_out], rank=2, fan_in_fan_out=True)
        model.constant(f"transformer.h.0.{layer}.bias", [d_out], "float32", "00000000")
    for norm in ("transformer.h.0.ln_1", "transformer.h.0.ln_2", "transformer.ln_f"):
        model.constant(f"{norm}.weight", [4], "float32", "3f800000")
        model.stored(f"{norm}.bias", tensor("float32", 4), "norm")
    model.tied("lm_head.weight", "transformer.wte.weight")
    return model


@shows("the family transformers: floats that JSON lacks", buildable=False)
def transformers_floats() -> Model:
    limits = {"time_step_limit": [0.0, {"__float__": "Infinity"}], "low": {"__float__": "-Infinity"}}
    config = {"model_type": "mamba2", "other": {"none": {"__float__": "NaN"}}, **limits}
    model = Model({"family": "transformers", "class": "Mamba2Model", "config": config})
    model.stored("norm_f.weight", tensor("float32", 4), "norm")
    return model


@shows("the family timm: a tuple, a list and a dictionary among the arguments", buildable=False)
def timm_arguments() -> Model:
    config = {"img_size": {"tuple": [32, 32]}, "num_classes": 3, "block_args": {"rates": [0.0, 0.5], "act": None}}
    model = Model({"family": "timm", "class": "vit_tiny_patch16_224", "config": config})
    model.stored("head.weight", tensor("float32", 3, 2), "head")
    return model


@shows("the family python: built where the caller allows torch", buildable=False)
def python_class() -> Model:
    sizes = {"in1_features": 3, "in2_features": 2, "out_features": 4}
    model = Model({"family": "python", "class": "torch.nn:Bilinear", "config": sizes})
    model.stored("weight", tensor("float32", 4, 3, 2))
    model.constant("bias", [4], "float32", "00000000")
    return model


@shows("the family python with a function itself among the arguments", buildable=False)
def python_reference() -> Model:
    sizes = {"d_model": 4, "nhead": 2, "dim_feedforward": 3, "dropout": 0.0}
    config = sizes | {"activation": {"class": "torch.nn.functional:relu"}}
    model = Model({"family": "python", "class": "torch.nn:TransformerEncoderLayer", "config": config})
    model.stored("norm1.weight", tensor("float32", 4), "norm")
    return model


@shows("the family python with a class among the arguments: built where the caller allows torch", buildable=False)
def python_nested() -> Model:
    layer = {"class": "torch.nn:Linear", "config": {"in_features": 3, "out_features": 4, "bias": False}}
    model = Model({"family": "python", "class": "torch.nn:DataParallel", "config": {"module": layer}})
    model.seeded("module.weight", [4, 3])
    return model
