"""Virtual layers in unusual uses have the bits of materialised ones.

All numbers are small integers and quarters, whose sums are exact in any order.
"""

import copy

import pytest
import torch
from models import bits
from torch import nn

import lottapack
from lottapack.errors import CheckpointError

OPTIONS = {"seed": 3, "rank": 2, "distribution": "sign1", "scale": 0.25, "targets": "*", "train": "biases"}


def whole(*shape, seed=0):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def scaffolded(backbone, layers):
    model = lottapack.scaffold(nn.Sequential(*layers()), backbone=backbone, **OPTIONS)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(whole(*parameter.shape, seed=number))
    return model


def linears():
    return nn.Linear(8, 12, bias=False), nn.ReLU(inplace=True), nn.Linear(12, 6)


def stepped(model, x, loss=lambda y: (y * whole(*y.shape, seed=9)).sum()):
    """Output and gradients."""
    x = x.clone().requires_grad_()
    y = model(x)
    loss(y).backward()
    return [y, x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


def complex_numbers(model):
    """A model in complex64, whose adapters have imaginary parts."""
    model = model.to(torch.complex64)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.complex(whole(*parameter.shape, seed=number), whole(*parameter.shape, seed=-number)))
    x, part = torch.complex(whole(4, 8), whole(4, 8, seed=1)), torch.complex(whole(4, 6), whole(4, 6, seed=2))
    model = nn.Sequential(model[0], model[2])  # no activation orders complex numbers
    return map(torch.view_as_real, stepped(model, x, lambda y: (y * part).sum().real))


def several_gradients_at_once(model):
    x = whole(4, 8).requires_grad_()
    inputs = [x, *(p for p in model.parameters() if p.requires_grad)]
    return torch.autograd.grad(model(x), inputs, whole(3, 4, 6, seed=1), is_grads_batched=True)


def output_changed_in_place(model):
    model[0].register_forward_hook(lambda _, __, out: out.mul_(2))
    return [*stepped(model, whole(4, 8)), *stepped(model, whole(2, 3, 8)), *stepped(model, whole(8))]


USES = {use.__name__: use for use in (complex_numbers, several_gradients_at_once, output_changed_in_place)}


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("use", USES)
def test_a_use_has_the_bits_of_a_materialised_backbone(use):
    due, found = ([*map(bits, USES[use](scaffolded(mode, linears)))] for mode in ("materialised", "virtual"))
    assert found == due


def test_a_large_output_of_a_product_can_be_changed_in_place():
    model = scaffolded("virtual", lambda: [nn.Linear(8, 512, bias=False), nn.Identity(), nn.Linear(512, 2)])
    y = model[0](whole(1024, 8).requires_grad_())
    assert y.nbytes > 1 << 20  # it has memory of its own
    before = y.detach().clone()
    assert torch.equal(y.mul_(2), 2 * before)


@pytest.mark.parametrize("dim", [0, -1])
def test_an_ensemble_has_the_weights_of_each_model_or_is_refused(dim):
    """Stacked tensors do not hold virtual weights, which would be those of the model that runs."""

    def run(backbone, seeds):
        models = [
            lottapack.scaffold(nn.Sequential(*linears()), backbone=backbone, **{**OPTIONS, "seed": seed})
            for seed in seeds
        ]
        parameters, buffers = torch.func.stack_module_state(models)
        buffers = {name: stacked.movedim(0, dim) for name, stacked in buffers.items()}
        base = copy.deepcopy(models[0]).to("meta")
        x = whole(4, 8)
        ensemble = torch.vmap(lambda p, b: torch.func.functional_call(base, (p, b), (x,)), in_dims=(0, dim))
        assert torch.equal(ensemble(parameters, buffers), torch.stack([model(x) for model in models]))

    run("virtual", [3, 3])
    run("materialised", [3, 4])
    with pytest.raises(CheckpointError, match=r"tensors of another scaffold.*: seed 4, this model 3"):
        run("virtual", [3, 4])
