"""Triton kernels give the reference's bits under the interpreter, and compile for GPUs.

On a CUDA device they are in ``test_equality.py`` too.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import interpreted
import numpy as np
import pytest
import torch
from equality_cases import DTYPES, TABLES, expected, ranges, source
from extent import crossed, extent
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lottapack
from lottapack.rng import reference

triton = pytest.importorskip("triton")

SEED, NAME = 2**63 + 42, "layers.0.weight"


@pytest.fixture(scope="session")
def interpreter() -> Iterator[interpreted.Interpreter]:
    with interpreted.interpreter() as found:
        yield found


def test_the_interpreter_is_chosen(interpreter):
    assert interpreter(interpreted.chosen) == "triton"


@pytest.mark.parametrize(("table", "dtype"), crossed([*TABLES], DTYPES))
def test_bits_and_fingerprints_of_many_tensors_in_one_launch(interpreter, table, dtype):
    borders = ranges(32 // TABLES[table].bits)
    # An own table is handled as a built-in one of its width, with other entries. A kernel places float16 as it places
    # bfloat16, and only rounds otherwise.
    if table.startswith("own") or dtype == "float16":
        borders = borders[5:7] + borders[-3:]
    pieces = [(table, dtype, start, count) for start, count in borders]
    found, sums, launches = interpreter(interpreted.at_once, pieces)
    assert launches == 1
    for bits, total, (_, _, start, count) in zip(found, sums, pieces, strict=True):
        want = expected(source(table, dtype), start, count)
        assert np.array_equal(bits, want), (start, count)
        assert total == reference.fingerprint(want, start), (start, count)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", ["normal16", "own8", "uniform16", "sign1"])
@pytest.mark.parametrize(("start", "count"), [(0, 0), (0, 1), (0, 8193), (777, 2048), (2**35 - 1500, 3000)])
def test_bits_and_fingerprints_of_one_tensor(interpreter, table, dtype, start, count):
    bits, total = interpreter(interpreted.filled, (table, dtype, start, count), SEED, NAME)
    want = expected(source(table, dtype), start, count)
    assert np.array_equal(bits, want)
    assert total == reference.fingerprint(want, start)


@settings(deadline=None, max_examples=15)
@given(
    start=st.integers(0, 2**63 - 3000),
    count=st.integers(0, 3000),
    seed=st.integers(0, 2**64 - 1),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    table=st.sampled_from(sorted(TABLES)),
    dtype=st.sampled_from(DTYPES),
)
def test_any_source_and_range(interpreter, start, count, seed, name, table, dtype):
    bits, total = interpreter(interpreted.filled, (table, dtype, start, count), seed, name)
    want = reference.elements(source(table, dtype, seed=seed, name=name), start, count)
    assert np.array_equal(bits, want)
    assert total == reference.fingerprint(want, start)


@pytest.mark.parametrize("tensors", extent([1, 3, 33], [1, 2, 3, 4, 5, 31, 33]))
def test_each_program_finds_its_tensor(interpreter, tensors):
    """Sizes around that of a program, and zero; each table and dtype is one launch."""
    sizes = (8192, 1, 0, 8193, 3000)
    pieces = [("normal8", "bfloat16", 5 * n, sizes[n % 5]) for n in range(tensors)]
    pieces[1::4] = [("sign1", "float32", start, count) for _, _, start, count in pieces[1::4]]
    found, sums, launches = interpreter(interpreted.at_once, pieces)
    assert launches == len({piece[:2] for piece in pieces if piece[3]})
    for bits, total, (table, dtype, start, count) in zip(found, sums, pieces, strict=True):
        want = expected(source(table, dtype), start, count)
        assert np.array_equal(bits, want)
        assert total == reference.fingerprint(want, start)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("table", ["normal16", "sign1"])
@pytest.mark.parametrize("start", [2**31, 2**33, 2**40])
def test_places_in_a_tensor_have_64_bits(interpreter, table, dtype, start):
    bits, total = interpreter(interpreted.far_end, (table, dtype, start, 3000))
    want = expected(source(table, dtype), start, 3000)
    assert np.array_equal(bits, want)
    assert total == reference.fingerprint(want, start)


def test_fingerprints_of_what_is_never_stored(interpreter):
    pieces = [(table, dtype, 2**40 + 3, 9000) for table in ("normal16", "own4") for dtype in DTYPES]
    _, sums, _ = interpreter(interpreted.at_once, pieces, False)
    for total, (table, dtype, start, count) in zip(sums, pieces, strict=True):
        assert total == reference.fingerprint(expected(source(table, dtype), start, count), start)


def test_float16_is_rounded_to_the_nearest_even(interpreter):
    """Every finite float16, both neighbouring float32 numbers, all ties, and many others."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[1:] + halves[:-1]) / 2
    drawn = np.random.default_rng(1).integers(0x00800000, 0x477FEFFF, 2**15, dtype=np.uint32).view(np.float32)
    marks = np.concatenate([halves[1:], ties])
    beside = [np.nextafter(marks, np.float32(end)) for end in (0, 65519)]
    values = np.concatenate([halves, marks, *beside, drawn])
    values = np.concatenate([values, -values])
    values = values[(np.abs(values) >= np.finfo(np.float32).tiny) | (values == 0)]
    from rounding_kernel import SIZE

    values = np.append(values, np.zeros(-values.size % SIZE, np.float32))
    assert np.array_equal(interpreter(interpreted.rounded, values), values.astype(np.float16).view(np.uint16))


WAYS = [{}, {"merge": True}, {"dtype": torch.bfloat16, "merge": True}, {"check_fingerprints": True}]


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """Two tables and two dtypes, a pack's own table, convolutions, and an embedding stored as (in, out)."""
    model = nn.Sequential(
        nn.Embedding(30, 40), nn.Conv1d(12, 16, 3), nn.Linear(38, 300), nn.Linear(300, 20).to(torch.float16)
    )
    own = lottapack.rng.custom("own", [-1.5, -0.25, 0.0, 3.0])
    model = lottapack.scaffold(model, seed=9, rank=2, distribution=own, train=["biases"])
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 0.01 * (number + 1)
    return lottapack.pack(model, tmp_path_factory.mktemp("gpu") / "a").path


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_model_is_filled_at_once_and_has_the_same_bits(interpreter, pack, way):
    found, launches = interpreter(interpreted.loaded, pack, way)
    assert found == interpreted.bits(lottapack.load(pack, **way))
    assert launches == (4 if way.get("dtype") else 2)


def test_verify_on_a_device(interpreter, pack):
    found = interpreter(interpreted.verified, pack)
    assert found == [(check.what, check.where, check.status) for check in lottapack.verify(pack).checks]
    assert interpreted.verified(pack) == found
    assert {status for *_, status in found} == {"ok"}


def compiled(target: str, kernel: str, **constants: object) -> str:
    """Return the assembly of a kernel for any processor."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lottapack.rng import gpu_kernels

    nvidia = target.startswith("sm")
    processor = GPUTarget("cuda", int(target[2:]), 32) if nvidia else GPUTarget("hip", target, 64)
    given = {"rows": "*i64", "sums": "*i64", "table": "*fp32", "first_step": "i32", "tensors": "i32"}
    if kernel == "fingerprint":
        given = {"bits": "*i32" if constants["WIDE"] else "*i16", "sums": "*i64", "start": "i64", "count": "i64"}
    source = ASTSource(getattr(gpu_kernels, kernel), given | dict.fromkeys(constants, "constexpr"), constants)
    made = triton.compile(source, processor, options={"enable_fp_fusion": False})
    assert made.asm["cubin" if nvidia else "hsaco"]
    return made.asm["ptx" if nvidia else "amdgcn"]


FUSED = re.compile(r"\b(fma|mad|v_fma|v_mad|v_mac|v_fmac|v_pk_fma|v_dot)\w*[._](rn[._])?\w*f(16|32)|\bftz\b", re.I)


CHANGED = (
    {"FORM": 0},
    {"FORM": 1, "SUM": True},
    {"FORM": 2},
    {"UNIFORM": True},
    {"BITS": 1, "BLOCKS": 1, "STORE": False, "SUM": True},
)


@pytest.mark.parametrize(("changed", "target"), crossed(CHANGED, ["sm80", "sm90", "gfx942"]), ids=str)
def test_it_compiles_and_fuses_nothing(target, changed, tmp_path, monkeypatch):
    """In machine code for GPUs too, the multiplication is never fused."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"BLOCKS": 4, "BITS": 16, "FORM": 0, "UNIFORM": False, "STORE": True, "SUM": False, **changed}
    assembly = compiled(target, "generate", **constants)
    assert re.search(r"\bmul\.(rn\.)?f32|v_(pk_)?mul_f32", assembly)
    assert not FUSED.search(assembly), FUSED.search(assembly)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("target", ["sm80", "gfx942"])
def test_the_kernel_that_reads_compiles(target, wide, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assembly = compiled(target, "fingerprint", STEPS=16, WIDE=wide)
    assert re.search(r"atom\.\S*add\.u64|global_atomic_add_x2", assembly)


@pytest.mark.parametrize(
    "line", ["fma.rn.f32 %f1", "v_fma_mixlo_f16 v1", "v_fmac_f32_e32 v0", "mul.ftz.f32", "v_pk_fma_f32 v"]
)
def test_fused_operations_are_found(line):
    assert FUSED.search(line)
