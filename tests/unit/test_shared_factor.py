"""Experts that share a factor of their adapters."""

import copy

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import lottapack
from lottapack.errors import ScaffoldError, UnsupportedError

EXPERTS = ("gate_up_proj", "down_proj")


class Experts(nn.Module):
    """Four experts, of which a forward pass uses some."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(4, 12, 8))
        self.down_proj = nn.Parameter(torch.empty(4, 8, 6))

    def forward(self, x: torch.Tensor, used: tuple[int, ...] = (0, 1, 2, 3)) -> torch.Tensor:
        out = torch.zeros_like(x)
        for number in used:
            gate, up = (x @ self.gate_up_proj[number].mT).chunk(2, -1)
            out = out + (gate.sigmoid() * up) @ self.down_proj[number].mT
        return out


def scaffolded(shared, **options):
    model = lottapack.build("python", "test_shared_factor:Experts")
    model = lottapack.scaffold(model, seed=5, rank=2, shared_factor=shared, **options)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.3)
    return model


def shapes(model):
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters() if "lora" in name}


@pytest.fixture
def x():
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(2))


def test_one_factor_serves_all_experts():
    assert shapes(scaffolded("lora_A")) == {
        "gate_up_proj_lora_A": (2, 8),
        "gate_up_proj_lora_B": (4, 12, 2),
        "down_proj_lora_A": (2, 6),
        "down_proj_lora_B": (4, 8, 2),
    }


def test_factors_are_chosen_by_pattern():
    found = shapes(scaffolded({"gate_up_proj": "lora_A", "down_proj": "lora_B"}))
    assert (found["gate_up_proj_lora_A"], found["gate_up_proj_lora_B"]) == ((2, 8), (4, 12, 2))
    assert (found["down_proj_lora_A"], found["down_proj_lora_B"]) == ((4, 2, 6), (8, 2))


def test_weights_that_no_pattern_names_keep_both():
    found = shapes(scaffolded({"down_proj": "lora_B"}))
    assert (found["gate_up_proj_lora_A"], found["gate_up_proj_lora_B"]) == ((4, 2, 8), (4, 12, 2))


@pytest.mark.parametrize("shared", ["lora_A", "lora_B"])
def test_each_expert_is_its_backbone_and_the_shared_factor(shared, x):
    model = scaffolded(shared)
    for leaf in EXPERTS:
        backbone, beta = getattr(model, f"{leaf}_backbone"), getattr(model, f"{leaf}_beta")
        a, b = (
            one if one.dim() == 3 else one.expand(4, -1, -1)
            for one in (getattr(model, f"{leaf}_lora_A"), getattr(model, f"{leaf}_lora_B"))
        )
        for number in range(4):
            due = beta * backbone[number] + b[number] @ a[number]
            torch.testing.assert_close(getattr(model, leaf)[number].clone(), due)
            torch.testing.assert_close(getattr(model, leaf)[number : number + 1].clone(), due[None])
    assert torch.equal(model(x, (1, 3)), copy.deepcopy(model)(x, (1, 3)))


@pytest.mark.parametrize("shared", ["lora_A", "lora_B", {"gate_up_proj": "lora_A", "down_proj": "lora_B"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_packed_comes_back(shared, dtype, x, tmp_path):
    model = scaffolded(shared).to(dtype)
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(model, path)
    allow = ["test_shared_factor"]
    assert lottapack.verify(path, allow=allow).ok
    loaded, merged = lottapack.load(path, allow=allow), lottapack.load(path, allow=allow, merge=True)
    x = x.to(dtype)
    assert torch.equal(loaded(x), model(x))
    bound = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(merged(x), model(x), atol=bound, rtol=bound)
    arrays = lottapack.numpy.load(path)
    whole = lottapack.distributed.load_meta(path, merge=True, allow=allow)
    lottapack.distributed.fill_(whole, path, allow=allow)
    for leaf in EXPERTS:
        due = getattr(merged, leaf).detach()
        assert np.array_equal(arrays[leaf].view("i4"), due.float().view(torch.int32).numpy())
        assert torch.equal(getattr(whole, leaf).detach(), due)


def test_gradients_reach_the_shared_factor_and_the_experts_that_were_used(x):
    model = scaffolded("lora_A")
    model(x, (1,)).square().sum().backward()
    for leaf in EXPERTS:
        assert getattr(model, f"{leaf}_lora_A").grad.any()
        assert [bool(one.any()) for one in getattr(model, f"{leaf}_lora_B").grad] == [False, True, False, False]


def test_a_shared_factor_can_be_frozen(tmp_path):
    model = lottapack.build("python", "test_shared_factor:Experts")
    lottapack.scaffold(model, seed=5, rank=2, shared_factor="lora_A", frozen_factor="lora_A")
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(model, path)
    loaded = lottapack.load(path, allow=["test_shared_factor"])
    assert torch.equal(loaded.gate_up_proj_lora_A, model.gate_up_proj_lora_A)
    assert not loaded.gate_up_proj_lora_A.requires_grad
    with safe_open(path, "pt") as file:
        assert sorted(name for name in file.keys() if "lora" in name) == ["down_proj_lora_B", "gate_up_proj_lora_B"]  # noqa: SIM118


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ("A", "shared_factor='A': choose one of lora_A, lora_B"),
        ({"down_proj": None}, "choose one of lora_A, lora_B"),
        ({"down_prj": "lora_A"}, "shared_factor: no layer is called 'down_prj'"),
    ],
)
def test_other_values_are_refused(shared, message):
    with pytest.raises(ScaffoldError, match=message):
        scaffolded(shared)


def test_a_model_without_batches_is_refused():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    with pytest.raises(ScaffoldError, match="has no effect, because no weight with an adapter consists of several"):
        lottapack.scaffold(net, seed=1, rank=2, shared_factor="lora_A")
    with pytest.raises(ScaffoldError, match="'0' has no effect, because it does not match a weight of several"):
        lottapack.scaffold(net, seed=1, rank=2, shared_factor={"0": "lora_A"})


def test_experts_are_not_exported_to_peft(tmp_path):
    model = lottapack.build("python", "test_shared_factor:Experts")
    lottapack.pack(lottapack.scaffold(model, seed=5, rank=2, beta=1.0), tmp_path / "model.lotta.safetensors")
    with pytest.raises(
        UnsupportedError, match="convolutions and embeddings, and down_proj is a parameter of a Experts"
    ):
        lottapack.export(
            tmp_path / "model.lotta.safetensors", tmp_path / "peft", format="peft", allow=["test_shared_factor"]
        )
    assert not (tmp_path / "peft").exists()
