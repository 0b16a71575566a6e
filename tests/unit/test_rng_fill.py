import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from lottapack.errors import UnsupportedError
from lottapack.rng import (
    Source,
    builtin,
    fill,
    fill_,
    fill_all_,
    fill_bits,
    fingerprint,
    fingerprint_bits,
    fingerprint_hex,
    fingerprint_of,
    fingerprints_on,
    reference,
    threads,
)

SOURCE = Source(7, "a", builtin("normal16"), 0.5, "float32")


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (5, 0)])
def test_any_shape(shape):
    tensor = torch.full(shape, 777.0)
    assert fill_(tensor, SOURCE, 9) is tensor
    expected = reference.elements(SOURCE, 9, tensor.numel())
    assert np.array_equal(tensor.numpy().view(np.uint32).reshape(-1), expected)
    assert fingerprint(tensor, 9) == reference.fingerprint(expected, 9)


def test_parameters_can_be_filled():
    parameter = torch.nn.Parameter(torch.zeros(4, 4))
    fill_(parameter, SOURCE)
    assert parameter.requires_grad
    assert np.array_equal(parameter.detach().numpy().view(np.uint32).reshape(-1), reference.elements(SOURCE, 0, 16))


def test_a_slice_that_is_contiguous_leaves_its_neighbours_alone():
    tensor = torch.full((4, 1000), 777.0)
    fill_(tensor[1:3], SOURCE)
    assert (tensor[0] == 777).all()
    assert (tensor[3] == 777).all()
    assert (tensor[1:3] != 777).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32])
def test_another_dtype_is_refused(dtype):
    with pytest.raises(UnsupportedError, match="from a source of float32"):
        fill_(torch.zeros(3, dtype=dtype), SOURCE)


def test_only_dtypes_of_the_format_have_fingerprints():
    with pytest.raises(UnsupportedError, match="cannot take the fingerprint of a tensor of dtype float64"):
        fingerprint(torch.zeros(3, dtype=torch.float64))


def test_sparse_tensors_are_refused():
    with pytest.raises(UnsupportedError, match="not contiguous"):
        fill_(torch.zeros(3).to_sparse(), SOURCE)


@pytest.mark.parametrize("start", [-1, 2**63 - 2])
def test_elements_beyond_the_range_are_refused(start):
    for call in (
        lambda: fill_(torch.zeros(3), SOURCE, start),
        lambda: fill_bits(np.zeros(3, np.uint32), SOURCE, start),
        lambda: fingerprint(torch.zeros(3), start),
        lambda: fingerprint_bits(np.zeros(3, np.uint32), start),
    ):
        with pytest.raises(UnsupportedError, match="exceeds the stream's"):
            call()
    with pytest.raises(UnsupportedError, match="exceeds the stream's"):
        fingerprint_of(SOURCE, -1)


def test_a_scale_that_does_not_fit_is_refused_even_for_nothing():
    source = Source(7, "a", builtin("normal16"), 2.0**-126, "float32")
    for call in (
        lambda: fill_(torch.zeros(0), source),
        lambda: fill_bits(np.zeros(0, np.uint32), source),
        lambda: fingerprint_of(source, 0),
    ):
        with pytest.raises(UnsupportedError, match="not a normal binary32"):
            call()


@pytest.mark.parametrize(
    "bits", [np.zeros(4, np.uint16), np.zeros((2, 2), np.uint32), np.zeros(8, np.uint32)[::2], np.zeros(4, np.int32)]
)
def test_arrays_of_another_form_are_refused(bits):
    with pytest.raises(UnsupportedError, match="cannot use an array"):
        fill_bits(bits, SOURCE)


def test_read_only_arrays_have_a_fingerprint_but_cannot_be_filled():
    bits = np.frombuffer(reference.elements(SOURCE, 0, 100).tobytes(), np.uint32)
    assert fingerprint_bits(bits) == fingerprint_of(SOURCE, 100)
    with pytest.raises(UnsupportedError, match="read-only"):
        fill_bits(bits, SOURCE)


def test_fingerprints_are_written_with_all_their_digits():
    assert fingerprint_hex(0xABC) == "0000000000000abc"
    assert fingerprint_of(SOURCE, 0) == 0


def test_threads_follow_torch(monkeypatch):
    assert threads.default() == torch.get_num_threads()
    monkeypatch.delitem(sys.modules, "torch")
    assert threads.default() == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def test_an_error_in_a_piece_comes_through(monkeypatch):
    def work(lo, hi):
        if lo:
            raise ValueError("piece")
        return hi

    with pytest.raises(ValueError, match="piece"):
        threads.spread(0, 5 * threads.PIECE, work, 3)


def _child(queue):
    queue.put(fingerprint_of(SOURCE, 3 * threads.PIECE))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_gets_threads_of_its_own(monkeypatch):
    monkeypatch.setattr("lottapack.rng.cpu.default", lambda: 3)
    monkeypatch.setattr("lottapack.rng.kernels.team.is_ready", lambda: False)
    expected = fingerprint_of(SOURCE, 3 * threads.PIECE)
    assert threads._pool is not None
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    assert queue.get(timeout=300) == expected
    child.join()


def loaded(code: str) -> str:
    """Which of the heavy libraries are loaded after ``code``."""
    program = f"import sys\n{code}\nprint([name for name in ('torch', 'numba') if name in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_importing_the_package_is_light():
    assert loaded("import lottapack.rng\nlottapack.rng.builtin('normal16')") == "[]"


def test_arrays_need_no_torch():
    """Nor numba, once kernels are compiled."""
    code = "from lottapack.rng import *\nfingerprint_of(Source(1, 'a', builtin('sign1'), 1.0, 'float32'), 5000)"
    assert "torch" not in loaded(code)
    assert loaded(code) == "[]"
    assert loaded(f"{code}\nimport numba") == "['numba']", "the test can fail"


def test_many_tensors_at_once():
    sources = [
        Source(7, name, builtin(table), 0.5, dtype)
        for name, table, dtype in (
            ("a", "normal16", "float32"),
            ("b", "sign1", "bfloat16"),
            ("c", "normal8", "float16"),
            ("d", "sign1", "float32"),
        )
    ]
    jobs = [(torch.full((3, 11 * n), 777.0, dtype=getattr(torch, one.dtype)), one) for n, one in enumerate(sources)]
    assert fill_all_(jobs) == []
    for tensor, one in jobs:
        found = tensor.view({4: torch.int32, 2: torch.int16}[tensor.element_size()]).numpy().reshape(-1)
        assert np.array_equal(found.view(f"u{found.itemsize}"), reference.elements(one, 0, tensor.numel()))
    totals = [fingerprint(tensor) for tensor, _ in jobs]
    assert fill_all_(jobs, fingerprints=True) == totals
    assert fingerprints_on(torch.device("cpu"), [(one, tensor.numel()) for tensor, one in jobs]) == totals
    assert fill_all_([]) == fill_all_([], fingerprints=True) == fingerprints_on(torch.device("cpu"), []) == []


def test_none_is_filled_if_one_cannot_be():
    good, bad = torch.full((5,), 777.0), torch.zeros(5, dtype=torch.float64)
    with pytest.raises(UnsupportedError, match="float64"):
        fill_all_([(good, SOURCE), (bad, SOURCE)])
    assert (good == 777).all()


def test_fingerprints_of_more_than_a_piece(monkeypatch):
    monkeypatch.setattr(fill, "_PIECE", 1000)
    [found] = fingerprints_on(torch.device("cpu"), [(SOURCE, 5500)])
    assert found == reference.fingerprint(reference.elements(SOURCE, 0, 5500))
