"""The decoder against the specification's known answers."""

import hashlib

import pytest
from spec_files import answers

from lottapack.codecs import CODECS
from lottapack.format import dtypes
from lottapack.format.shapes import numel

CASES = answers("codings")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']} {case['dtype']} {case['case']}")
def test_coded_tensors_decode_to_the_known_bits(case):
    parts = {part: bytes.fromhex(case[part]) for part in ("codes", "scales") if case[part] is not None}
    made = bytearray(b"\xaa" * numel(case["shape"]) * dtypes.ITEMSIZE[case["dtype"]])
    assert set(parts) == CODECS[case["id"]].fields
    CODECS[case["id"]].decode(parts, tuple(case["shape"]), case["dtype"], memoryview(made))
    assert case["decoded"] in (None, made.hex())
    assert hashlib.sha256(made).hexdigest() == case["sha256"]


def test_every_coding_has_answers_in_every_dtype():
    shown = {(case["id"], case["dtype"]) for case in CASES}
    for coding, codec in CODECS.items():
        for dtype in codec.dtypes or ("float64", "float32", "bfloat16", "float16", "bool"):
            assert (coding, dtype) in shown
