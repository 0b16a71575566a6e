"""lottapack's generator against the known answers."""

import hashlib

import numpy as np
import pytest
from spec_files import answers

from lottapack import rng
from lottapack.rng.reference import philox4x32
from lottapack.rng.stream import stream_of

PHILOX = answers("philox")
ELEMENTS = {case["case"]: case for case in answers("elements")["cases"]}
SENTINEL = 0xA5A5


def words(texts):
    return tuple(int(text, 16) for text in texts)


def source_of(case):
    if case["table"] is None:
        table = rng.builtin(case["distribution"])
    else:
        entries = np.resize(np.array(words(case["table"]), np.uint32), 2 ** case["bits"]).view(np.float32)
        table = rng.custom(case["distribution"], entries)
    assert table.bits == case["bits"]
    shape = case["shape"]
    return rng.Source(
        int(case["seed"], 16),
        case["name"],
        table,
        case["scale"],
        case["dtype"],
        None if shape is None else tuple(shape),
    )


def little_endian(bits):
    return bits.astype(bits.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize("case", PHILOX["random123"], ids=lambda case: case["output"][0])
def test_philox(case):
    made = philox4x32(words(case["counter"]), words(case["key"]))
    assert tuple(int(word) for word in made) == words(case["output"])


def test_philox_of_cpp26():
    case = PHILOX["cpp26"]
    assert int(philox4x32((case["counter"], 0, 0, 0), (case["seed"], 0))[case["lane"]]) == case["value"]


@pytest.mark.parametrize("case", answers("streams")["cases"], ids=lambda case: case["why"])
def test_streams(case):
    assert stream_of(case["name"]) == int(case["stream"], 16)


@pytest.mark.parametrize("case", answers("tables")["tables"], ids=lambda case: case["id"])
def test_tables(case):
    table = rng.builtin(case["id"])
    assert table.bits == case["bits"]
    bits = table.values.view(np.uint32)
    assert {index: f"{bits[int(index)]:08x}" for index in case["entries"]} == case["entries"]
    assert hashlib.sha256(little_endian(bits)).hexdigest() == case["sha256"]


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements(name):
    case = ELEMENTS[name]
    dtype = np.uint32 if case["dtype"] == "float32" else np.uint16
    out = np.full(case["count"], SENTINEL, dtype)
    rng.fill_bits(out, source_of(case), int(case["start"]))
    if case["values"] is not None:
        assert [f"{bits:0{2 * out.itemsize}x}" for bits in out.tolist()] == case["values"]
    assert hashlib.sha256(little_endian(out)).hexdigest() == case["sha256"]
    assert rng.fingerprint_bits(out, int(case["start"])) == int(case["fingerprint"], 16)
