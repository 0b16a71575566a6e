"""Every backend gives the bits of the reference on every available device, without tolerance."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from equality_cases import DTYPES, TABLES, bits_of, blank, expected, filled, ranges, source
from hypothesis import given, settings
from hypothesis import strategies as st

from lottapack.errors import UnsupportedError
from lottapack.rng import (
    Source,
    fill_,
    fill_all_,
    fill_bits,
    fingerprint,
    fingerprint_bits,
    fingerprint_of,
    fingerprints_on,
    reference,
    threads,
)
from lottapack.rng.backends import registered, select

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PLACES = [
    pytest.param(backend, device, id=f"{backend.name}-{device}", marks=marks)
    for device, marks in (("cpu", ()), ("cuda", (pytest.mark.gpu, no_cuda)))
    for backend in registered()
    if (backend.name != "numba" if device == "cuda" else backend.supports(device))  # skipped visibly without CUDA
]
everywhere = pytest.mark.parametrize(("backend", "device"), PLACES)


def test_both_cpu_backends_are_here():
    assert [place.id for place in PLACES if place.id.endswith("cpu")] == ["numba-cpu", "torch-cpu"]


@everywhere
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_and_fingerprints(backend, device, table, dtype):
    one = source(table, dtype)
    for start, count in ranges(one.fields):
        tensor = blank(one, count, device)
        backend.fill(tensor, one, start)
        assert np.array_equal(bits_of(tensor), expected(one, start, count)), (start, count)
        assert backend.fingerprint(tensor, start) == reference.fingerprint(expected(one, start, count), start)


@everywhere
@settings(deadline=None, max_examples=25)
@given(
    start=st.integers(0, 2**63 - 3000),
    count=st.integers(0, 3000),
    seed=st.integers(0, 2**64 - 1),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    table=st.sampled_from(sorted(TABLES)),
    dtype=st.sampled_from(DTYPES),
)
def test_any_source_and_range(backend, device, start, count, seed, name, table, dtype):
    one = source(table, dtype, seed=seed, name=name)
    assert np.array_equal(filled(backend, device, one, start, count), reference.elements(one, start, count))


@everywhere
@pytest.mark.parametrize("cut", [1, 1023, 1024, 2049, 4095])
def test_two_parts_are_the_whole(backend, device, cut):
    one = source("normal16", "bfloat16")
    whole = filled(backend, device, one, 5, 5000)
    parts = filled(backend, device, one, 5, cut), filled(backend, device, one, 5 + cut, 5000 - cut)
    assert np.array_equal(np.concatenate(parts), whole)


@everywhere
def test_fingerprints_of_parts_add_up(backend, device):
    one = source("normal8", "float16")
    tensor = blank(one, 5000, device)
    backend.fill(tensor, one, 0)
    parts = backend.fingerprint(tensor[:777], 0) + backend.fingerprint(tensor[777:], 777)
    assert parts % 2**64 == backend.fingerprint(tensor, 0) == fingerprint_of(one, 5000)


@everywhere
def test_more_than_one_chunk_or_piece(backend, device, monkeypatch):
    """The borders between pieces of work do not change results."""
    from lottapack.rng import cpu, torch_ops

    monkeypatch.setattr(cpu, "PIECE", 2048)
    monkeypatch.setattr(torch_ops, "CHUNK", 2048)
    one = source("normal4", "float32")
    assert np.array_equal(filled(backend, device, one, 1000, 9000), expected(one, 1000, 9000))


@pytest.mark.gpu
@no_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_more_than_2_to_the_31_elements(dtype):
    one, count = source("normal16", dtype), 2**31 + 5000
    tensor = fill_(torch.empty(count, dtype=getattr(torch, dtype), device="cuda"), one)
    for start in (0, 2**31 - 5000, 2**31):
        assert np.array_equal(bits_of(tensor[start : start + 5000]), expected(one, start, 5000))
    assert fingerprint(tensor) == fingerprint_of(one, count)
    assert fingerprints_on(tensor.device, [(one, count)]) == [fingerprint(tensor)]


@pytest.mark.gpu
@no_cuda
def test_many_tensors_in_one_launch():
    sources = [source(table, dtype, name=str(n)) for n in range(100) for table in TABLES for dtype in DTYPES]
    jobs = [(blank(one, 37 * n % 9000, "cuda"), one) for n, one in enumerate(sources)]
    assert select("cuda").name == "triton"
    found = fill_all_(jobs, fingerprints=True)
    for (tensor, one), total in zip(jobs, found, strict=True):
        bits = np.empty(tensor.numel(), f"u{tensor.element_size()}")
        fill_bits(bits, one)
        assert np.array_equal(bits_of(tensor), bits)
        assert total == fingerprint_bits(bits)


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_of_a_table_is_hit(table):
    """The tests above then compare the whole buffer."""
    one = source(table, "float32")
    count = 2**20 if one.table.bits == 16 else 2**14
    bits = np.empty(count, np.uint32)
    fill_bits(bits, one)
    assert set(np.unique(bits)) == set(np.unique((one.table.values * np.float32(one.scale)).view(np.uint32)))


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("pool", [False, True])
def test_uneven_threads(pool, workers, monkeypatch):
    from lottapack.rng import cpu
    from lottapack.rng.kernels import calls, team

    monkeypatch.setattr(cpu, "PIECE", 32768)
    monkeypatch.setattr(cpu, "default", lambda: workers)
    monkeypatch.setattr(calls, "default", lambda: workers)
    monkeypatch.setattr(team, "is_ready", lambda: team.available() and not pool)
    one = source("sign1", "float32")
    count = 3 * 32768 + 4321
    bits = np.zeros(count, np.uint32)
    cpu.fill_bits(bits, one, 99)
    assert np.array_equal(bits, expected(one, 99, count))
    assert cpu.fingerprint_bits(bits, 99) == reference.fingerprint(bits, 99)
    assert cpu.fingerprint_of(one, count) == reference.fingerprint(expected(one, 0, count))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fingerprints_of_what_is_never_kept(table, dtype):
    """Whole blocks, parts of one, and more than a piece."""
    one = source(table, dtype)
    served = 1024 * one.fields
    whole = reference.elements(one, 0, threads.PIECE + served + 777)
    for count in (0, 1, 777, served, served + 1, whole.size):
        assert fingerprint_of(one, count) == reference.fingerprint(whole[:count])


def test_fills_from_many_threads_at_once():
    sources = [source("normal16", "float32", name=f"layer {n}") for n in range(16)]

    def fill(one: Source) -> torch.Tensor:
        return fill_(blank(one, threads.PIECE + 5000), one)

    with ThreadPoolExecutor(8) as pool:
        tensors = list(pool.map(fill, sources))
    for one, tensor in zip(sources, tensors, strict=True):
        assert np.array_equal(bits_of(tensor[:2000]), expected(one, 0, 2000))
        assert np.array_equal(bits_of(tensor[-2000:]), expected(one, threads.PIECE + 3000, 2000))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_and_arrays_agree(dtype):
    one = source("normal16", dtype)
    tensor = fill_(blank(one, 6000).reshape(2, 30, 100), one, 11)
    bits = np.zeros(6000, f"u{tensor.element_size()}")
    fill_bits(bits, one, 11)
    assert np.array_equal(bits_of(tensor), bits)
    assert fingerprint(tensor, 11) == fingerprint_bits(bits, 11) == reference.fingerprint(bits, 11)


@pytest.mark.parametrize("view", [lambda t: t[::2], lambda t: t.reshape(10, 10).T, lambda t: t[:1].expand(5)])
def test_views_with_gaps_are_refused(view):
    one = source("normal16", "float32")
    tensor = view(blank(one, 100))
    with pytest.raises(UnsupportedError, match="not contiguous"):
        fill_(tensor, one)
    with pytest.raises(UnsupportedError, match="not contiguous"):
        fingerprint(tensor)
    assert (tensor == 777).all()
