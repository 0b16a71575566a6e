import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from lottapack.errors import DeviceError, UnsupportedError
from lottapack.rng import (
    Source,
    backends,
    builtin,
    fill_,
    fill_bits,
    fill_runs_,
    fingerprint_bits,
    fingerprint_of,
    reference,
)
from lottapack.rng.selfcheck import ANSWERS, ensure

SOURCE = Source(42, "a", builtin("normal16"), 0.5, "float32")


@pytest.fixture
def unchecked(monkeypatch):
    """As in a fresh process: forget all devices' known answers."""
    monkeypatch.setattr("lottapack.rng.selfcheck._passed", set())


def test_the_device_decides():
    assert backends.select("cpu").name == "numba"
    assert backends.select(torch.device("cpu")).name == "numba"
    assert backends.select("cuda:1").name == "torch"
    with pytest.raises(UnsupportedError, match="'meta'"):
        backends.select("meta")
    with pytest.raises(UnsupportedError, match="'meta'"):
        fill_(torch.empty(3, device="meta"), SOURCE)


def test_a_name_can_be_registered_once(monkeypatch):
    monkeypatch.setattr(backends, "_backends", list(backends.registered()))
    one = replace(backends.select("cpu"), name="mine")
    backends.register(one)
    assert list(backends.registered())[-1] is one
    with pytest.raises(UnsupportedError, match="'mine' already exists"):
        backends.register(one)


def test_a_backend_can_be_asked_for_by_name():
    assert backends.select("cpu", "torch").name == "torch"
    assert backends.select(torch.device("cuda", 1), "torch").name == "torch"
    with pytest.raises(UnsupportedError, match="unknown backend 'fast'") as error:
        backends.select("cpu", "fast")
    assert error.value.hint == "Choose one of numba, triton, torch."
    with pytest.raises(UnsupportedError, match=r"'triton' cannot generate on a 'cpu' device: .* cuda or xpu") as error:
        backends.select("cpu", "triton")
    assert "'numba' gives the same bits" in error.value.hint
    with pytest.raises(UnsupportedError, match="'numba' cannot generate on a 'cuda' device\n") as error:
        backends.select("cuda", "numba")
    with pytest.raises(UnsupportedError, match="'torch' cannot generate on a 'meta' device\n") as error:
        backends.select("meta", "torch")
    assert "on the CPU" in error.value.hint


@pytest.fixture
def as_a_gpu(monkeypatch):
    """Ask Triton to generate on the CPU, as if it compiled for it."""
    for cached in (backends.triton_fault, backends.triton_works):
        cached.cache_clear()
    monkeypatch.setattr(backends, "_torch_finds", lambda kind: kind == "cpu")
    first = sorted(backends.registered(), key=lambda backend: ("triton", "torch", "numba").index(backend.name))
    monkeypatch.setattr(backends, "_backends", first)
    yield
    for cached in (backends.triton_fault, backends.triton_works):
        cached.cache_clear()


def test_a_triton_that_cannot_run_leaves_the_work_to_torch_with_one_notice(as_a_gpu, unchecked):
    """Really: Triton finds no driver for the CPU."""
    pytest.importorskip("triton")
    with pytest.warns(
        RuntimeWarning, match=r"cannot compile or run its kernels on 'cpu'.*slower torch operations"
    ) as told:
        assert backends.select("cpu").name == "torch"
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = fill_(torch.empty(3000), SOURCE, 5)
    assert np.array_equal(tensor.numpy().view(np.uint32), reference.elements(SOURCE, 5, 3000))
    with pytest.raises(UnsupportedError, match=r"'triton' cannot generate on a 'cpu' device: Triton .*driver") as error:
        backends.select("cpu", "triton")
    assert "'torch' gives the same bits" in error.value.hint


def test_what_triton_raises_is_one_typed_error():
    pytest.importorskip("triton")
    from lottapack.rng import gpu

    with pytest.raises(UnsupportedError, match=r"Triton \S+ cannot compile or run its kernels on 'cpu': ") as error:
        gpu.fill(torch.empty(3), SOURCE, 0)
    assert "plain torch operations generate the same bits" in error.value.hint


def test_without_triton_torch_does_the_work_with_one_notice(as_a_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "lottapack.rng.gpu", None)
    monkeypatch.delattr("lottapack.rng.gpu", raising=False)
    with pytest.warns(RuntimeWarning, match=r"^Triton cannot be imported .*slower torch operations"):
        assert backends.select("cpu").name == "torch"


def test_where_there_is_no_gpu_nothing_is_said(recwarn):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert not backends.triton_works("cuda")
    assert not recwarn.list


def test_without_numba_torch_does_the_work_with_one_notice(monkeypatch, unchecked):
    backends.numba_works.cache_clear()
    monkeypatch.setitem(sys.modules, "lottapack.rng.cpu", None)
    monkeypatch.delattr("lottapack.rng.cpu", raising=False)
    try:
        with pytest.warns(RuntimeWarning, match="llvmlite cannot be imported"):
            assert backends.select("cpu").name == "torch"
        expected = reference.elements(SOURCE, 5, 3000)
        bits = np.zeros(3000, np.uint32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fill_bits(bits, SOURCE, 5)
            assert np.array_equal(bits, expected)
            bits.flags.writeable = False
            assert fingerprint_bits(bits, 5) == reference.fingerprint(expected, 5)
            assert fingerprint_of(SOURCE, 300_000) == reference.fingerprint(reference.elements(SOURCE, 0, 300_000))
    finally:
        backends.numba_works.cache_clear()


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer.distribution}-{answer.dtype}-{answer.start}")
def test_the_known_answers_are_those_of_the_reference(answer):
    bits = reference.elements(answer.source, answer.start, answer.count)
    assert reference.fingerprint(bits, answer.start) == answer.fingerprint


def test_the_known_answers_cover_all_paths_and_dtypes():
    assert {answer.dtype for answer in ANSWERS} == {"float32", "bfloat16", "float16"}
    assert {"normal16", "uniform16", "sign1"} <= {answer.distribution for answer in ANSWERS}
    counters = [answer.start // (1024 * answer.source.fields) * 256 for answer in ANSWERS]
    ends = [(answer.start + answer.count) // (1024 * answer.source.fields) * 256 for answer in ANSWERS]
    assert any(first < 2**32 <= end for first, end in zip(counters, ends, strict=True))


@pytest.mark.parametrize("element", [0, 1999])
def test_a_backend_with_one_wrong_bit_is_refused(element, monkeypatch, unchecked):
    """The tensor keeps its values; the device stays refused."""
    good = backends.select("cpu")

    def fill(tensor, source, start):
        good.fill(tensor, source, start)
        tensor.view({4: torch.int32, 2: torch.int16}[tensor.element_size()])[element] ^= 1

    monkeypatch.setattr(backends, "_backends", [replace(good, name="broken", fill=fill)])
    tensor = torch.zeros(3000)
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"'broken' computes wrong bits on 'cpu'.*normal16"):
            fill_(tensor, SOURCE)
    assert (tensor == 0).all()


def test_a_backend_with_wrong_runs_is_refused(monkeypatch, unchecked):
    good = backends.select("cpu")

    def fill_runs(tensor, source, starts, lengths):
        good.fill_runs(tensor, source, starts, lengths)
        tensor[-1] = 0

    monkeypatch.setattr(backends, "_backends", [replace(good, name="broken", fill_runs=fill_runs)])
    tensor = torch.zeros(5)
    with pytest.raises(DeviceError, match=r"'broken, in runs' computes wrong bits on 'cpu'.*normal16"):
        fill_runs_(tensor, SOURCE, np.array([0, 10]), np.array([2, 3]))
    assert (tensor == 0).all()
    monkeypatch.undo()
    assert fill_runs_(tensor, SOURCE, np.array([0, 10]), np.array([2, 3])).any()


def test_arrays_are_checked_as_well(monkeypatch, unchecked):
    from lottapack.rng import cpu

    monkeypatch.setattr(cpu, "fill_bits", lambda out, source, start: out.fill(0))
    with pytest.raises(DeviceError, match="'numba'"):
        fill_bits(np.zeros(3, np.uint32), SOURCE)


def test_the_answers_are_asked_once_from_however_many_threads(unchecked):
    asked = []
    barrier = threading.Barrier(8)
    known = {(a.source, a.start): a.fingerprint for a in ANSWERS}

    def compute(source, start, count):
        asked.append(count)
        return known[source, start]

    def work():
        barrier.wait()
        ensure("some", "device", compute)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert asked == [answer.count for answer in ANSWERS]


BROKEN_NUMBA = """
import sys
from importlib.machinery import PathFinder

class Broken:
    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name == "numba" else None
        if spec is not None:
            spec.loader = self
        return spec
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise ImportError("Numba needs NumPy 9.9 or less")

sys.meta_path.insert(0, Broken())
import numpy as np
from lottapack.rng import Source, builtin, fill_bits, reference
source = Source(1, "a", builtin("normal16"), 0.5, "float32")
bits = np.zeros(3000, np.uint32)
fill_bits(bits, source, 5)
assert np.array_equal(bits, reference.elements(source, 5, 3000))
print("torch" in sys.modules)
"""


def test_a_numba_that_cannot_be_imported_is_missed_only_where_kernels_are_not_compiled(tmp_path):
    fill_bits(np.zeros(1, np.uint32), SOURCE)  # the kernels are compiled, if they were not
    for compiled in (True, False):
        path = os.pathsep.join(filter(None, sys.path))
        places = {} if compiled else {"PYTHONPYCACHEPREFIX": str(tmp_path), "LOTTAPACK_CACHE": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", BROKEN_NUMBA],
            env={**os.environ, "PYTHONPATH": path, **places},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == "False"  # torch was not imported either
        assert ("numba cannot be imported (Numba needs NumPy 9.9 or less)" in done.stderr) != compiled
