"""Damaged and hostile packs: typed errors without allocation."""

import copy
import hashlib
import json
import os
import tracemalloc

import pytest
import torch
from models import all_bits, trained
from torch import nn

import lottapack
from lottapack import LottapackError, rng
from lottapack.arch.budget import Budget
from lottapack.errors import ArchitectureError, LimitError
from lottapack.format import canonical, container
from lottapack.format.descriptor import TABLE_ID, Architecture
from lottapack.format.packfile import PackFile


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Write a pack with every role and its own table."""
    path = tmp_path_factory.mktemp("packs") / "whole"
    table = rng.custom("own", [-1.0, 1.0])
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=1, targets="0", train=["norms"], distribution=table), path)
    return path


def refused(path):
    """Return whether opening and loading raise a LottapackError; another exception fails the test."""
    try:
        with lottapack.open_pack(path):
            pass
        lottapack.load(path, check_fingerprints=True)
    except LottapackError as error:
        assert str(error)
        return True
    return False


def rewrite(path, target, change):
    """Change the descriptor of a pack as JSON and fix the rest of the file."""
    with lottapack.open_pack(path) as pack:
        descriptor = json.loads(pack.descriptor.to_bytes())
        data = path.read_bytes()[pack.data_start :]
        tensors = list(pack.tensors.values())
    changed = change(descriptor) or descriptor
    header = container.header_bytes(tensors, container.pack_metadata(canonical.dumps(changed)))
    target.write_bytes(header + data)
    return target


def test_the_unchanged_pack_is_not_refused(pack, tmp_path):
    assert not refused(pack)
    assert rewrite(pack, tmp_path / "same", lambda _: None).read_bytes() == pack.read_bytes()


def test_every_changed_byte_is_refused(pack, tmp_path):
    whole, path = pack.read_bytes(), tmp_path / "a"
    path.write_bytes(whole)
    accepted = []
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ (1 << place % 8)]), place)
            if not refused(path):
                accepted.append(place)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert path.read_bytes() == whole
    assert accepted == []


def test_every_truncation_and_every_addition_is_refused(pack, tmp_path):
    whole, path = pack.read_bytes(), tmp_path / "a"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert refused(path), length
    for more in (b"\0", b" " * 8, whole):
        path.write_bytes(whole + more)
        assert refused(path)


def leaves(value, path=()):
    """The places of all that is not an object, and of the objects too."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def changed_at(value, path, new):
    value = copy.deepcopy(value)
    if not path:
        return new
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


ODD = (None, True, -1, 0, 2**63, 1e308, 0.1, "", "x", "0" * 16, [], [-1], [2**53 - 1, 2**53 - 1], {}, {"x-": 1})


def test_odd_descriptors_are_refused_or_give_a_model(pack, tmp_path):
    """The file is valid except for one value of the descriptor."""
    with lottapack.open_pack(pack) as opened:
        original = json.loads(opened.descriptor.to_bytes())
    outcomes = {True: 0, False: 0}
    for place in leaves(original):
        if place[:1] == ("provenance",):
            continue
        for odd in ODD:
            path = rewrite(pack, tmp_path / "a", lambda _, place=place, odd=odd: changed_at(original, place, odd))
            outcomes[refused(path)] += 1
    assert outcomes[True] > 1000
    assert outcomes[False] > 10


def test_odd_configurations_of_transformers_are_refused_or_give_a_model(tmp_path):
    lottapack.pack(trained("gpt2"), tmp_path / "whole")
    with lottapack.open_pack(tmp_path / "whole") as opened:
        original = json.loads(opened.descriptor.to_bytes())
    outcomes = {True: 0, False: 0}
    for place in leaves(original["architecture"]["config"]):
        for odd in (None, -1, 1.5, "x", {}):
            full = ("architecture", "config", *place)
            path = rewrite(tmp_path / "whole", tmp_path / "a", lambda _, f=full, o=odd: changed_at(original, f, o))
            outcomes[refused(path)] += 1
    assert outcomes[True] > 30
    assert outcomes[False] > 30


def set_at(*path, to):
    return lambda descriptor: changed_at(descriptor, path, to)


def huge(descriptor):
    """Eight terabytes in one constant, of a model that really has that shape."""
    entry = {"role": "constant", "shape": [2**20, 2**21], "dtype": "float32", "value": "00000000"}
    descriptor["parameters"] = {"weight": entry}
    descriptor["rng"]["tables"] = {}
    config = {"in_features": 2**21, "out_features": 2**20, "bias": False}
    descriptor["architecture"] = {"family": "torch.nn", "class": "Linear", "config": config}


def written(path, change):
    """A pack without tensors."""
    descriptor = {
        "lottapack": "1.0",
        "architecture": {},
        "rng": {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}},
        "parameters": {},
        "provenance": {},
    }
    change(descriptor)
    path.write_bytes(container.header_bytes([], container.pack_metadata(canonical.dumps(descriptor))))
    return path


@pytest.mark.parametrize("role", ["constant", "seeded"])
def test_declared_terabytes_are_refused_without_allocating(role, tmp_path):
    def change(descriptor):
        huge(descriptor)
        if role == "seeded":
            entry = descriptor["parameters"]["weight"]
            del entry["value"]
            entry |= {"role": "seeded", "distribution": "sign1", "scale": 1.0, "fingerprint": "0" * 16}

    path = written(tmp_path / "a", change)
    assert path.stat().st_size < 1000
    for use in (
        lottapack.load,
        lottapack.verify,
        lambda path: lottapack.load(path, merge=True, dtype=torch.float16),
        lambda path: lottapack.export(path, tmp_path / "b"),
        lambda path: lottapack.export(path, tmp_path / "b", max_bytes=2**60),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(LimitError, match=r"[0-9.]+ TB"):
                use(path)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
    assert not (tmp_path / "b").exists()
    assert lottapack.inspect(path).numel == 2**41


def test_configurations_without_end_are_refused():
    config = {"model_type": "gpt2", "n_embd": 4, "n_head": 1, "n_layer": 2**60}
    with pytest.raises(LimitError, match=r"GPT2Model: config\.n_layer is 1,152,921,504,606,846,976, but at most"):
        lottapack.arch.build(Architecture(family="transformers", class_="GPT2Model", config=config))
    with pytest.raises(LimitError, match=r"more than 2,004 tensors, but its table declares only 1\n"):
        lottapack.arch.build(
            Architecture(family="transformers", class_="GPT2Model", config={**config, "n_layer": 2**20}),
            Budget(tensors=1),
        )


def test_shapes_of_ties_must_fit_the_architecture(pack, tmp_path):
    path = rewrite(pack, tmp_path / "a", set_at("parameters", "2.weight", to={"role": "tied", "to": "0.weight"}))
    with pytest.raises(ArchitectureError, match=r"does not have the packed parameters: 2\.weight"):
        lottapack.load(path)


@pytest.mark.parametrize("name", ["1.weight", "2.weight", "3.weight", "1.running_mean.x"])
def test_names_must_be_those_of_the_architecture(name, pack, tmp_path):
    def rename(descriptor):
        descriptor["parameters"][name] = descriptor["parameters"].pop("2.weight")
        return descriptor

    path = rewrite(pack, tmp_path / "a", rename)
    if name == "2.weight":
        assert not refused(path)
        return
    with pytest.raises((ArchitectureError, lottapack.errors.AgreementError)):
        lottapack.load(path)


def one_layer(tmp_path, *layers):
    model = nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 2))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=1, targets="0"), tmp_path / "whole")
    return tmp_path / "whole"


def test_an_adapter_must_fit_its_layer(tmp_path):
    """A square linear weight recorded as transposed: only its merged form is defined."""
    path = rewrite(one_layer(tmp_path), tmp_path / "a", set_at("parameters", "0.weight", "fan_in_fan_out", to=True))
    with pytest.raises(ArchitectureError, match=r"0\.weight: a Linear does not support this adapter"):
        lottapack.load(path)
    assert lottapack.load(path, merge=True)


def test_generated_buffers_are_buffers(tmp_path):
    """Writers do not produce this, but the format allows it."""

    def change(descriptor):
        entry = descriptor["parameters"]["1.running_mean"]
        source = rng.Source(1, "1.running_mean", rng.builtin("normal16"), 0.5, "float32")
        del entry["value"]
        entry |= {"role": "seeded", "distribution": "normal16", "scale": 0.5}
        entry["fingerprint"] = rng.fingerprint_hex(rng.fingerprint_of(source, 4))

    path = rewrite(one_layer(tmp_path, nn.BatchNorm1d(4)), tmp_path / "a", change)
    model = lottapack.load(path, check_fingerprints=True)
    assert model[1].running_mean.abs().sum() > 0
    lottapack.pack(model, tmp_path / "b")
    assert all_bits(lottapack.load(tmp_path / "b")) == all_bits(model)


def test_infinite_scaling_of_a_pack_is_what_the_spec_says(tmp_path):
    path = rewrite(one_layer(tmp_path), tmp_path / "a", set_at("parameters", "0.weight", "alpha", to=1e300))
    assert lottapack.load(path)[0].scaling == float("inf")
    assert torch.isnan(lottapack.load(path, merge=True)[0].weight).all()  # infinity times a B of zeros


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a"
    model = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 1024))  # larger than the buffer of a file in Python 3.14
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=1, train="1"), path)
    with lottapack.open_pack(path) as opened:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
        with pytest.raises(lottapack.errors.IntegrityError, match="has the SHA-256"):
            for info in opened.tensors.values():
                opened.read(info)
        with path.open("r+b") as file:
            file.truncate(opened.data_start)
        with pytest.raises(lottapack.errors.IntegrityError, match="the file ended early"):
            opened.read(next(iter(opened.tensors.values())))


@pytest.mark.parametrize("name", ["", "missing", "folder"])
def test_paths_that_are_no_file_are_refused(name, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(lottapack.errors.ContainerError, match=str(tmp_path)):
        lottapack.load(tmp_path / name)


def test_sources_are_those_of_generated_parameters(pack):
    with lottapack.open_pack(pack) as opened:
        assert isinstance(opened, PackFile)
        assert opened.source("0.weight").table.id == "own"
        assert TABLE_ID.fullmatch("own")
        with pytest.raises(KeyError, match=r"1\.weight is not generated"):
            opened.source("1.weight")
        digest = hashlib.sha256(opened.descriptor.to_bytes()).hexdigest()
    assert digest in pack.read_bytes().decode("latin-1")
