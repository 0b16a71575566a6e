"""Parts of every entry of the specification's packs are those of the whole: merged, coded, scaled to lengths, empty."""

from pathlib import Path

import msgspec
import pytest
import torch
from extent import ordinary
from models import bits, mlp

import lottapack
from lottapack.errors import IntegrityError
from lottapack.format.descriptor import Adapted
from lottapack.format.packfile import open_pack
from lottapack.format.scaffolds import place_of
from lottapack.weights import part_tensors
from lottapack.weights.part_tensors import PlainTensor
from lottapack.weights.parts import chunk, join, whole
from lottapack.weights.rebuild import adapter_tensors, empty_backbone, generate, plain_tensor

VALID = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"
FILES = [path for path in sorted(VALID.glob("*.safetensors")) if not path.name.startswith("torch_cpu")]
PACKS = {path.name.partition(".")[0]: path for path in FILES}
CPU = torch.device("cpu")


def parts_of(shape):
    """Shards along each dimension and along two at once, uneven, strided and empty ones."""
    everything = whole(shape)
    yield everything
    for dim in range(len(shape)):
        ranges = everything.ranges[dim]
        yield everything.with_range(dim, chunk(ranges, 2, 0))
        yield everything.with_range(dim, chunk(ranges, 3, 2))
        strided = join([kept for outer in range(3) for kept in chunk(chunk(ranges, 3, outer), 2, 1)])
        yield everything.with_range(dim, strided)
        for other in range(dim):
            yield everything.with_range(dim, strided).with_range(other, chunk(everything.ranges[other], 2, 1))


@pytest.mark.parametrize("name", ordinary(PACKS, {"ten_thousand_parameters"}))
def test_parts_are_those_of_the_whole(name, monkeypatch):
    monkeypatch.setattr(part_tensors, "_FEW", 2)
    with open_pack(PACKS[name]) as pack:
        for name in pack.descriptor.parameters:
            expected = plain_tensor(pack, name, CPU)
            found = PlainTensor(pack, name, CPU)
            assert (found.shape, found.dtype) == (tuple(expected.shape), expected.dtype)
            for part in parts_of(found.shape):
                fresh = PlainTensor(pack, name, CPU)
                assert bits(fresh.part(part)) == bits(part.take(expected)), (name, part)
            for size in (1, 7, 1 << 20) if expected.numel() < 5_000 else (1 << 14, 50_007, 1 << 20):
                monkeypatch.setattr(part_tensors, "PIECE", size)
                flat = [piece.reshape(-1) for piece in PlainTensor(pack, name, CPU).pieces()]
                joined = torch.cat([torch.empty(0, dtype=expected.dtype), *flat])
                assert bits(joined) == bits(expected.reshape(-1)), (name, size)
            entry = found.entry
            if isinstance(entry, Adapted):
                weight = generate(pack, found.name, empty_backbone(pack, found.name, CPU))
                for part in parts_of(found.shape):
                    assert bits(found.backbone(part)) == bits(part.take(weight))
                assert adapter_tensors(pack, found.name, CPU).keys() == entry.adapter.tensors().keys()


def test_a_hash_is_that_of_the_whole_also_where_a_part_is_kept(tmp_path):
    data = bytearray((VALID / "every_role.lotta.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    with open_pack(tmp_path / "damaged") as pack:
        last = max(pack.tensors.values(), key=lambda info: info.end)
        part = whole(last.shape)
        part = part.with_range(0, chunk(part.ranges[0], 4, 0)) if last.shape else part
        with pytest.raises(IntegrityError, match="has the SHA-256"):
            part_tensors.stored_part(pack, last.name, part)
        with pytest.raises(IntegrityError, match="has the SHA-256"):
            list(part_tensors.stored_pieces(pack, last.name))


def test_a_wrong_fingerprint_is_named_where_it_stands(tmp_path):
    """Of a second scaffold that is not the parameter's own record; and it is computed on the tensor's device."""
    model = lottapack.scaffold(mlp(), seed=1, scaffolds={"task-b": 2}, rank=2)
    path = lottapack.pack(model, tmp_path / "a").path
    for scaffold, place in ((None, "0.weight"), ("task-b", place_of("task-b", "0.weight"))):
        with lottapack.open_pack(path, scaffold) as pack:
            tensor = PlainTensor(pack, "0.weight", torch.device("cpu"))
            tensor.check_fingerprint()
            parameters = pack.descriptor.parameters
            parameters["0.weight"] = msgspec.structs.replace(parameters["0.weight"], fingerprint="0" * 16)
            with pytest.raises(IntegrityError) as caught:
                tensor.check_fingerprint()
            assert [problem.where for problem in caught.value.problems] == [place]
