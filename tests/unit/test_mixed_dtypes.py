"""Adapters wider than the backbone and models cast later run after loading as before packing."""

import pytest
import torch
from models import all_bits, bits, cnn, mlp, text, tied_llama, train
from test_layers import adapted
from torch import nn

import lottapack

Conv1D = pytest.importorskip("transformers.pytorch_utils").Conv1D

LAYERS = {
    "linear": lambda: (nn.Linear(12, 6), torch.randn(3, 5, 12)),
    "without bias": lambda: (nn.Linear(12, 6, bias=False), torch.randn(3, 12)),
    "conv1d": lambda: (nn.Conv1d(4, 6, 3, padding=1), torch.randn(2, 4, 9)),
    "conv2d": lambda: (nn.Conv2d(4, 6, 3, stride=2), torch.randn(2, 4, 9, 9)),
    "embedding": lambda: (nn.Embedding(10, 6), torch.randint(0, 10, (2, 5))),
    "transformers": lambda: (Conv1D(6, 12), torch.randn(2, 5, 12)),
}


class Holder(nn.Module):
    """PEFT wants a layer with a name."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", LAYERS)
def test_float32_adapters_on_a_narrow_backbone_compute_as_in_peft(kind, narrow):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    plain, x = LAYERS[kind]()
    layer = adapted(plain, rank=2, alpha=3.0, beta=False).to(narrow)
    base = LAYERS[kind]()[0].to(narrow)
    base.load_state_dict({"weight": layer.backbone} | ({"bias": layer.bias} if "bias" in base.state_dict() else {}))
    config = LoraConfig(r=2, lora_alpha=3.0, target_modules=["layer"], fan_in_fan_out=kind == "transformers")
    theirs = get_peft_model(Holder(base), config)
    for part, name in ((layer.lora_A, "lora_A"), (layer.lora_B, "lora_B")):
        part.data = torch.randn(part.shape)
        adapter = dict(theirs.named_parameters())
        (key,) = (key for key in adapter if name in key or name.replace("_", "_embedding_") in key)
        adapter[key].data.copy_(part.reshape(adapter[key].shape))
    x = x.to(narrow) if x.is_floating_point() else x
    ours, expected = layer(x), theirs(x)
    assert ours.dtype == narrow
    assert bits(ours) == bits(expected)
    ours.float().square().sum().backward()
    assert layer.lora_A.grad.dtype == torch.float32
    assert layer.lora_A.grad.abs().sum() > 0


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("source", ["model", "checkpoint"])
@pytest.mark.parametrize("build", [mlp, cnn, text, tied_llama])
def test_a_model_that_was_cast_after_scaffold_comes_back_as_it_was(build, source, narrow, merge, tmp_path):
    model = train(lottapack.scaffold(build(), seed=2, rank=2)).to(narrow)
    lottapack.pack(model if source == "model" else model.state_dict(), tmp_path / "p")
    loaded = lottapack.load(tmp_path / "p", merge=merge, check_fingerprints=True)
    tensors = [*loaded.named_parameters(), *loaded.named_buffers()]
    held = {tensor.dtype for name, tensor in tensors if tensor.is_floating_point()}
    assert held == {narrow}
    assert {check.status for check in lottapack.verify(tmp_path / "p").checks} == {"ok"}
    if not merge:
        assert {**all_bits(model), "lottapack_recipe": None} == {**all_bits(loaded), "lottapack_recipe": None}
        lottapack.pack(loaded, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (tmp_path / "p").read_bytes()


def test_a_part_that_is_kept_wide_stays_wide(tmp_path):
    model = train(lottapack.scaffold(mlp(), seed=2, rank=2))
    model[0].to(torch.bfloat16)
    lottapack.pack(model, tmp_path / "p")
    loaded = lottapack.load(tmp_path / "p")
    assert (loaded[0].backbone.dtype, loaded[2].backbone.dtype) == (torch.bfloat16, torch.float32)
    assert {n: p.dtype for n, p in loaded.named_parameters()} == {n: p.dtype for n, p in model.named_parameters()}


def test_narrow_adapters_alone_are_widened_as_before(tmp_path):
    state = lottapack.scaffold(mlp(), seed=2, rank=2).state_dict()
    state = {name: value.bfloat16() if "lora" in name else value for name, value in state.items()}
    lottapack.pack(state, tmp_path / "p")
    loaded = lottapack.load(tmp_path / "p")
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    assert loaded[0].backbone.dtype == torch.float32


def test_all_that_is_trained_may_be_wider(tmp_path):
    """As diffusers' cast_training_params() leaves a model; under autocast it runs."""
    model = train(lottapack.scaffold(mlp().bfloat16(), seed=2, rank=2))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.float()
    lottapack.pack(model, tmp_path / "p")
    loaded = lottapack.load(tmp_path / "p")
    x = torch.randn(3, 16)
    for narrow in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow), torch.no_grad():
            given = x if narrow else x.bfloat16()
            part = model[:4], loaded[:4]
            assert bits(part[0](given)) == bits(part[1](given))
