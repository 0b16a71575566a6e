"""Run with four devices of the host: arrays and packs (those named, or all) in shards, beside them in NumPy."""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import lottapack
from lottapack.errors import LimitError, PlacementError
from lottapack.jax import stream

FILES = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"
PACKS = (
    *("every_role", "backbone_dtypes", "tied_chain", "coded_adapters", "magnitude", "experts", "fan_in_fan_out"),
    *("builtin_tables", "custom_tables", "diagonal_adapters", "transposed", "odd_shapes", "shared_factors"),
    *("seeded_factors", "vera"),
)


def bits(array):
    array = np.asarray(array)
    return array.view(f"u{array.dtype.itemsize}")


def rounded(array, like):
    return array.astype(like.dtype)  # NumPy's bfloat16 is float32, which holds each of its numbers


def spread(mesh):
    """Return shardings for any shape: along the first sides that the mesh divides."""

    def target(name, shape):
        axes = list(mesh.shape.items())
        spec = [axes.pop(0)[0] if axes and size and size % axes[0][1] == 0 else None for size in shape]
        return NamedSharding(mesh, P(*spec))

    return target


def main():
    devices = np.array(jax.devices())
    assert devices.size == 4
    line, square = Mesh(devices, "x"), Mesh(devices.reshape(2, 2), ("x", "y"))
    ways = (NamedSharding(line, P("x")), NamedSharding(line, P(None, "x")), NamedSharding(square, P("y", "x")))
    made = []

    make = stream.elements

    def watched(source, shape, start, part, device):
        found = make(source, shape, start, part, device)
        made.append((found.size, device))
        return found

    stream.elements = watched
    for distribution in ("normal16", "hadamard"):
        expected = lottapack.numpy.draw("w", (64, 48), seed=9, distribution=distribution)
        for sharding in ways:
            made.clear()
            found = lottapack.jax.draw("w", (64, 48), seed=9, distribution=distribution, device=sharding)
            assert found.sharding == sharding
            assert np.array_equal(bits(found), bits(expected)), (distribution, sharding)
            assert {device for _, device in made} == {*jax.devices()}
            assert {size for size, _ in made} == {64 * 12}
            assert all(shard.data.devices() == {shard.device} for shard in found.addressable_shards)
    for name in sys.argv[1:] or PACKS:
        path = FILES / f"{name}.lotta.safetensors"
        expected = lottapack.numpy.load(path)
        for target in (spread(square), jax.devices()[3]):
            found = lottapack.jax.load(path, device=target)
            assert found.keys() == expected.keys()
            for key, array in found.items():
                assert array.devices() == ({*jax.devices()} if callable(target) else {target})
                assert np.array_equal(bits(array), bits(rounded(expected[key], array))), (name, key)
    for refused, error in (
        (lambda: lottapack.jax.draw("w", (6, 3), seed=1, device=ways[0]), PlacementError),
        (lambda: lottapack.jax.load(path, device=ways[1]), PlacementError),
        (lambda: lottapack.jax.load(path, max_bytes=10), LimitError),
    ):
        try:
            refused()
        except error:
            continue
        raise AssertionError("it was not refused")
    print("same bits")


if __name__ == "__main__":
    main()
