"""load() with a virtual backbone: memory, limits, refusals."""

import copy
import hashlib
import json

import pytest
import torch
from memory import peak, size
from models import mlp, output, train
from torch import nn

import lottapack
from lottapack.errors import IntegrityError, LimitError, ScaffoldError, UnsupportedError
from lottapack.nn.generated import generated_of

WIDTH = 1024


def large():
    return nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.Linear(WIDTH, 8))


def packed(folder, table, model=None):
    model = lottapack.scaffold(model or large(), seed=1, rank=2, distribution=table)
    return lottapack.pack(train(model), folder / table).path


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("virtual")
    return {table: packed(folder, table) for table in ("sign1", "normal8")}


def digest(text):
    return hashlib.sha256(text).hexdigest().encode()


BACKBONE = 2 * 4 * WIDTH * WIDTH * 4


@pytest.mark.parametrize(("table", "backbone"), [("sign1", "virtual"), ("normal8", "blocks")])
def test_loading_and_training_take_no_memory_for_the_backbone(packs, table, backbone):
    def step():
        model = lottapack.load(packs[table], backbone=backbone)
        model.train()(torch.ones(24, WIDTH)).square().sum().backward()
        return model

    step()  # what is made once in a process
    model, most = peak(step)
    layers = [module for module in model.modules() if generated_of(module) is not None]
    assert len(layers) == 2
    held = 2 * size(model)  # with the gradients
    tile, activations = 8 << 20, 8 * 24 * 4 * WIDTH * 4
    assert most < held + tile + activations < BACKBONE / 2
    _, full = peak(lambda: lottapack.load(packs[table]))
    assert full > BACKBONE


def test_the_limit_counts_what_is_there(packs):
    free = size(lottapack.load(packs["sign1"], backbone="virtual"))
    with pytest.raises(LimitError, match="the model needs"):
        lottapack.load(packs["sign1"], max_bytes=free + (1 << 20))
    model = lottapack.load(packs["sign1"], backbone="virtual", max_bytes=free + (1 << 20))
    left = {module.generated.max_bytes for module in model.modules() if generated_of(module) is not None}
    assert left == {free + (1 << 20) - (size(model) - model.get_buffer("lottapack_recipe").nbytes)}
    x = torch.ones(20, WIDTH)
    _, most = peak(lambda: output(model, x))
    assert most < (1 << 20) + 8 * 20 * 4 * WIDTH * 4
    assert torch.allclose(output(model, x), output(lottapack.load(packs["sign1"]), x), rtol=1e-4, atol=1e-3)
    with pytest.raises(LimitError, match=r"0.weight: one row needs 4,096 bytes, but `max_bytes` leaves"):
        lottapack.load(packs["normal8"], backbone="blocks", max_bytes=free)


def test_a_dtype_is_that_of_the_weights(packs):
    model = lottapack.load(packs["sign1"], backbone={"0": "virtual"}, dtype=torch.bfloat16)
    full = lottapack.load(packs["sign1"], dtype=torch.bfloat16)
    assert [generated_of(layer) is not None for layer in model] == [True, False, False, False]
    assert torch.equal(model[0].weight, full[0].weight)
    x = torch.ones(1, WIDTH, dtype=torch.bfloat16)
    assert torch.allclose(output(model, x), output(full, x), rtol=0.05, atol=0.05)


def test_fingerprints_are_checked_without_keeping_weights(packs, tmp_path):
    lottapack.load(packs["sign1"], backbone="virtual", check_fingerprints=True)
    raw = packs["sign1"].read_bytes()
    with lottapack.open_pack(packs["sign1"]) as pack:
        recorded, descriptor = pack.descriptor.parameters["0.weight"].fingerprint.encode(), pack.descriptor.to_bytes()
    changed = descriptor.replace(recorded, b"0" * 16)
    raw = raw.replace(recorded, b"0" * 16).replace(digest(descriptor), digest(changed))
    (tmp_path / "changed").write_bytes(raw)
    lottapack.load(tmp_path / "changed", backbone="virtual")
    with pytest.raises(IntegrityError, match="fingerprint"):
        lottapack.load(tmp_path / "changed", backbone="virtual", check_fingerprints=True)


REFUSED = [
    (
        "normal8",
        {"backbone": "virtual"},
        UnsupportedError,
        "0.weight cannot be virtual: normal8 weights have no kernel",
    ),
    (
        "sign1",
        {"backbone": "virtual", "merge": True},
        UnsupportedError,
        "0.weight cannot be virtual: merging an adapter",
    ),
    ("sign1", {"backbone": "fast"}, ScaffoldError, "0.weight: unknown `backbone='fast'`"),
    ("sign1", {"backbone": {"0": "virtual", "7": "virtual"}}, ScaffoldError, "no generated layer is called '7'"),
]


@pytest.mark.parametrize(("table", "options", "kind", "message"), REFUSED)
def test_what_cannot_be_is_said_when_loading(packs, table, options, kind, message):
    with pytest.raises(kind, match=message):
        lottapack.load(packs[table], **options)


def test_weights_that_torch_drew_cannot_be_made_in_parts(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = mlp()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    path = tmp_path / "drawn"
    lottapack.pack(lottapack.recover.torch_cpu(tmp_path / "model.pt", seed=3, architecture=mlp()), path)
    with pytest.raises(UnsupportedError, match="weights of torch-cpu cannot be generated in parts"):
        lottapack.load(path, backbone="blocks")
    assert lottapack.report(path).memory.keys() == {"materialised"}


def test_report_says_what_a_loaded_model_takes(packs):
    for table, backbone in (("sign1", "virtual"), ("normal8", "blocks")):
        memory = lottapack.report(packs[table]).memory
        held = size(model := lottapack.load(packs[table])) - model.get_buffer("lottapack_recipe").nbytes
        assert memory["materialised"] == held
        assert memory.get("virtual") == (held - BACKBONE if table == "sign1" else None)
        assert memory["blocks"] == held - BACKBONE
        assert size(lottapack.load(packs[table], backbone=backbone)) < held - BACKBONE + 10_000
    assert json.dumps(memory)


UNBATCHED = {
    "Conv1d": (nn.Conv1d(6, 9, 3), (6, 11)),
    "Conv2d": (nn.Conv2d(6, 9, 3), (6, 11, 11)),
    "same, circular": (nn.Conv2d(6, 9, 3, padding="same", padding_mode="circular"), (6, 11, 11)),
}


@pytest.mark.parametrize("targets", ["0", "1"])
@pytest.mark.parametrize("case", UNBATCHED)
def test_one_input_without_a_batch(case, targets, tmp_path):
    """The convolution has an adapter, or is plain beside a layer with one."""
    layer, shape = UNBATCHED[case]
    model = nn.Sequential(layer, nn.Linear(shape[-1] - (0 if "same" in case else 2), 4))
    lottapack.pack(lottapack.scaffold(copy.deepcopy(model), seed=3, rank=2, targets=targets, train=[]), tmp_path / "p")
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    whole, blocks = (lottapack.load(tmp_path / "p", backbone=way) for way in ("materialised", "blocks"))
    assert torch.allclose(blocks(x), whole(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(blocks(x), blocks(x[None])[0])
    with pytest.raises(RuntimeError, match=r"batched|not supported for 2D"):
        blocks(x[0])
    assert blocks.to("meta")(x.to("meta")).shape == whole(x).shape


REFUSED = {
    "grad": lambda m, x: torch.func.grad(lambda y: m(y).sum())(x),
    "jacrev": lambda m, x: torch.func.jacrev(m)(x),
    "fx": lambda m, x: torch.fx.symbolic_trace(m),
    "sparse": lambda m, x: m(x.to_sparse()),
    "nested": lambda m, x: m(torch.nested.nested_tensor([x, x], layout=torch.jagged)),
}


@pytest.mark.parametrize("targets", ["0", "1"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_virtual_layers_do_not_take_is_refused_by_name(case, targets, tmp_path):
    model = nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 5))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=2, targets=targets, train=[]), tmp_path / "p")
    model = lottapack.load(tmp_path / "p", backbone="blocks")
    with pytest.raises(UnsupportedError, match=r"^0\.weight: .*\n.*load with backbone=.materialised"):
        REFUSED[case](model, torch.ones(4, 12))


def test_a_limit_beyond_all_integers_is_none(tmp_path):
    lottapack.pack(lottapack.scaffold(nn.Sequential(nn.Linear(12, 6)), seed=1, rank=2, targets="*"), tmp_path / "p")
    model = lottapack.load(tmp_path / "p", backbone="blocks", max_bytes=2**70)
    assert torch.equal(model(torch.ones(1, 12)), lottapack.load(tmp_path / "p", backbone="blocks")(torch.ones(1, 12)))
