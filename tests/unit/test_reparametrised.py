"""torch.nn.utils on layers after scaffold(): a typed error that says how to undo it, then a pack."""

import pytest
import torch
from models import bits, train
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import lottapack
from lottapack.errors import BackboneChangedWarning, CheckpointError, ScaffoldError


class Twice(nn.Module):
    """Doubles a parameter."""

    def forward(self, x):
        return 2 * x


def layers():
    return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.LayerNorm(12), nn.Linear(12, 4))


def model():
    return train(lottapack.scaffold(layers(), seed=1, rank=2))


WAYS = {
    "prune": ("weight", lambda layer: prune.l1_unstructured(layer, "weight", 0.5), prune.remove),
    "prune a bias": ("bias", lambda layer: prune.l1_unstructured(layer, "bias", 0.5), prune.remove),
    "weight_norm": ("weight", parametrizations.weight_norm, parametrize.remove_parametrizations),
    "parametrize": (
        "bias",
        lambda layer: parametrize.register_parametrization(layer, "bias", Twice()),
        parametrize.remove_parametrizations,
    ),
}


@pytest.mark.parametrize("how", ["model", "state"])
@pytest.mark.parametrize(
    ("way", "place"), [(way, place) for way in WAYS for place in (0, 2, 3) if WAYS[way][0] == "bias" or place]
)
def test_what_computes_a_parameter_is_named_with_what_undoes_it(way, place, how, tmp_path):
    trained = model()
    leaf, apply, undo = WAYS[way]
    apply(trained[place])
    given = torch.randn(2, 16)
    expected = bits(trained(given))
    with pytest.raises(CheckpointError, match=rf"{place}\.{leaf} is (pruned|parametrized)") as caught:
        lottapack.pack(trained if how == "model" else trained.state_dict(), tmp_path / "p")
    assert undo.__name__ in str(caught.value)
    undo(trained[place], leaf)
    lottapack.pack(trained, tmp_path / "p")
    assert bits(lottapack.load(tmp_path / "p")(given)) == expected == bits(trained(given))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    ("apply", "said"),
    [(nn.utils.weight_norm, "weight_norm"), (nn.utils.spectral_norm, "spectral_norm")],
)
def test_older_ways_are_named(apply, said, tmp_path):
    trained = model()
    apply(trained[3])
    with pytest.raises(CheckpointError, match=f"remove_{said}"):
        lottapack.pack(trained, tmp_path / "p")


REFUSED = {
    "prune": lambda layer, leaf: prune.l1_unstructured(layer, leaf, 0.5),
    "prune nothing": prune.identity,
    "prune structure": lambda layer, leaf: prune.ln_structured(layer, leaf, 0.5, 2, 0),
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "new weight_norm": parametrizations.weight_norm,
    "new spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "parametrize": lambda layer, leaf: parametrize.register_parametrization(layer, leaf, Twice()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("way", REFUSED)
def test_the_weight_of_an_adapted_layer_is_not_replaced(way):
    trained = model()
    before = {name: bits(tensor) for name, tensor in trained.state_dict().items()}
    with pytest.raises(ScaffoldError, match=r"0\.weight is generated from its seed, and no parameter") as e:
        REFUSED[way](trained[0], "weight")
    assert "lora_A and lora_B can be" in e.value.hint
    assert {name: bits(tensor) for name, tensor in trained.state_dict().items()} == before
    assert not trained[0]._forward_pre_hooks
    trained(torch.randn(2, 16))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "way", [way for way in REFUSED if "new" not in way and way not in ("orthogonal", "parametrize")]
)
def test_a_generated_weight_without_an_adapter_is_not_replaced(way):
    trained = train(lottapack.scaffold(layers(), seed=1, rank=2, targets="0", train=["norms"]))
    with pytest.raises(ScaffoldError, match=r"3\.weight is generated from its seed, and no parameter"):
        REFUSED[way](trained[3], "weight")
    trained(torch.randn(2, 16))


@pytest.mark.parametrize("way", ["new weight_norm", "new spectral_norm", "orthogonal", "parametrize"])
def test_a_parametrized_generated_weight_is_named(way, tmp_path):
    """torch lets a buffer be parametrized."""
    trained = train(lottapack.scaffold(layers(), seed=1, rank=2, targets="0", train=["norms"]))
    REFUSED[way](trained[3], "weight")
    given = torch.randn(2, 16)
    expected = trained.eval()(given)
    for source in (trained, trained.state_dict()):
        with pytest.raises(
            CheckpointError, match=r"(?s)3\.weight is parametrized.*remove_parametrizations\(module, 'weight'"
        ):
            lottapack.pack(source, tmp_path / "p")
    parametrize.remove_parametrizations(trained[3], "weight")
    with pytest.warns(BackboneChangedWarning):
        lottapack.pack(trained, tmp_path / "p")
    assert torch.allclose(lottapack.load(tmp_path / "p")(given), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("way", [way for way in REFUSED if not way.startswith("new spec") and way != "orthogonal"])
def test_an_adapted_weight_of_any_module_is_not_replaced(way):
    made = lottapack.scaffold(nn.Sequential(nn.Linear(8, 8), nn.Bilinear(8, 8, 4)), seed=1, rank=2, targets="1")
    with pytest.raises(ScaffoldError, match=r"1\.weight"):
        REFUSED[way](made[1], "weight")
    made.state_dict()


def test_the_parts_of_an_adapter_are_pruned():
    trained = model()
    for adapter in ("lora_A", "lora_B"):
        prune.l1_unstructured(trained[0], adapter, 0.5)
        prune.remove(trained[0], adapter)
    with pytest.raises(ScaffoldError, match=r"0\.weight is generated"):
        prune.l1_unstructured(trained[0], "backbone", 0.5)


def test_what_wraps_a_layer_is_refused_by_name(tmp_path):
    trained = model()
    trained[0] = nn.Sequential(trained[0], Twice())
    with pytest.raises(CheckpointError, match=r"0\.0|0 is a Sequential"):
        lottapack.pack(trained, tmp_path / "p")
