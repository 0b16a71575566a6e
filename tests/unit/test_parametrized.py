"""Adapters on the numbers behind a parametrized weight: weight_norm, spectral_norm, and others."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import lottapack
from lottapack.format.recipe import AdaptedRecipe, StoredRecipe
from lottapack.nn import recipe_of

ORIGINAL = "middle.parametrizations.weight.original"


class Net(nn.Module):
    """A layer with a parametrized weight, between two others."""

    def __init__(self, kind: str, norm: str, name: str = "weight") -> None:
        super().__init__()
        sizes = (16, 12, 3) if kind.startswith("Conv") else (16, 12)
        middle = getattr(nn, kind)(*sizes)
        self.first = nn.Linear(8, 16)
        self.middle = getattr(parametrizations, norm)(middle, name)
        self.last = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        if isinstance(self.middle, nn.RNNBase):
            hidden = self.middle(hidden)[0]
        else:
            turned = not isinstance(self.middle, nn.Linear)
            hidden = self.middle(hidden.mT).mT if turned else self.middle(hidden)
        return self.last(hidden)


def trained(kind, norm, **options):
    """A model after a step of training, in evaluation mode."""
    model = lottapack.build("python", "test_parametrized:Net", kind=kind, norm=norm, **options)
    model = lottapack.scaffold(model, seed=4, rank=2)
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("kind", ["Linear", "Conv1d", "ConvTranspose1d"])
def test_the_original_has_an_adapter_and_comes_back(kind, norm, tmp_path):
    model, x = trained(kind, norm), torch.randn(2, 6, 8)
    name = ORIGINAL + ("1" if norm == "weight_norm" else "")
    role = recipe_of(model).parameters[name]
    assert isinstance(role, AdaptedRecipe)
    assert role.fan_in_fan_out == (kind == "ConvTranspose1d")
    factor = dict(model.named_parameters())[f"{name}_lora_B"]
    assert factor.grad.any()
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(model, path)
    loaded = lottapack.load(path, allow=["test_parametrized"])
    merged = lottapack.load(path, allow=["test_parametrized"], merge=True)
    assert torch.equal(loaded(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    torch.testing.assert_close(merged(x), model(x), atol=1e-5, rtol=1e-5)


def test_a_recurrent_layer_comes_back(tmp_path):
    model, x = trained("LSTM", "weight_norm", name="weight_hh_l0"), torch.randn(2, 6, 8)
    roles = recipe_of(model).parameters
    assert isinstance(roles["middle.parametrizations.weight_hh_l0.original1"], AdaptedRecipe)
    assert isinstance(roles["middle.weight_ih_l0"], StoredRecipe)  # the class of a parametrized module is torch's
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(model, path)
    assert torch.equal(lottapack.load(path, allow=["test_parametrized"])(x), model(x))
