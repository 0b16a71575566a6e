"""The decoder against the specification's known answers."""

import hashlib

import pytest
from spec_files import answers

from lottapack.format import codings, dtypes
from lottapack.format.descriptor import Coding, Stored
from lottapack.format.shapes import numel

CASES = answers("codings")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']} {case['dtype']} {case['case']}")
def test_coded_tensors_decode_to_the_known_bits(case):
    parts = {part: bytes.fromhex(case[part]) for part in ("codes", "scales") if case[part] is not None}
    coding = Coding(id=case["id"], codes="", **({"scales": ""} if "scales" in parts else {}))
    entry = Stored(shape=case["shape"], dtype=case["dtype"], group="other", trained=True, sha256="", coding=coding)
    made = bytearray(b"\xaa" * numel(entry.shape) * dtypes.ITEMSIZE[entry.dtype])
    codings.decode_into(entry, coding, parts, memoryview(made))
    assert case["decoded"] in (None, made.hex())
    assert hashlib.sha256(made).hexdigest() == case["sha256"]


def test_every_coding_has_answers_in_every_dtype():
    shown = {(case["id"], case["dtype"]) for case in CASES}
    for coding, allowed in codings.DTYPES.items():
        for dtype in allowed if coding != codings.PLANES else ("float64", "float32", "bfloat16", "float16", "bool"):
            assert (coding, dtype) in shown
