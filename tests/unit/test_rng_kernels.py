"""Kernels as callers declare and call them."""

import struct

import numpy as np
import pytest
from numba.core.errors import NumbaError

from lottapack.errors import UnsupportedError
from lottapack.rng.kernels import compiler, declared
from lottapack.rng.kernels.kernel import Kernel, Memory

FINGERPRINT = declared.FINGERPRINT


@pytest.mark.parametrize(
    "array",
    [np.zeros(4, np.int32), np.zeros(4, np.uint64), np.zeros((2, 2), np.uint32), np.zeros(8, np.uint32)[::2]],
    ids=["signed", "wide", "two dimensions", "strides"],
)
def test_what_a_kernel_would_misread_is_refused(array):
    with pytest.raises(TypeError, match=r"fingerprint: |contiguous"):
        FINGERPRINT(array, 0)


def test_bits_are_of_one_type_in_all_of_a_call():
    out, table = np.zeros(4, np.uint32), np.zeros(2, np.uint16)
    with pytest.raises(TypeError, match=r"fill: cannot take uint32 of shape \(4,\)"):
        declared.FILL(out, 0, 0, table, 1, 0.0, 0, 0, 0, 0, 0)


def test_as_many_arguments_as_parameters():
    with pytest.raises(struct.error, match="expected 3 items"):
        FINGERPRINT(np.zeros(4, np.uint32))


def test_a_part_of_memory_is_within_it():
    numbers = np.arange(100, dtype=np.uint32)
    memory = Memory.of(numbers)
    assert FINGERPRINT(memory.part(10, 30), 10) == FINGERPRINT(numbers[10:30], 10)
    for begin, end in ((-1, 3), (5, 4), (90, 101)):
        with pytest.raises(IndexError, match=f"{begin} to {end} is not a part of "):
            memory.part(begin, end)
    with pytest.raises(TypeError, match="contiguous"):
        Memory.of(numbers[::2])


def test_a_kernel_that_fails_is_no_silence(monkeypatch):
    """An error raised in the source becomes a returned code."""

    @compiler.jit
    def stepping(numbers, step):
        for i in range(np.uint64(0), np.uint64(numbers.size), step):
            numbers[i] = 7

    monkeypatch.setattr(declared, "stepping", stepping, raising=False)
    monkeypatch.setattr("lottapack.rng.kernels.object_files.write", lambda *_: None)
    kernel, numbers = Kernel(declared.__name__, "stepping", "u32[] u64"), np.zeros(5, np.uint32)
    kernel(numbers, 2)
    assert numbers.tolist() == [7, 0, 7, 0, 7]
    with pytest.raises(UnsupportedError, match="the kernel stepping failed"):
        kernel(numbers, 0)


def test_code_that_needs_numba_is_refused(monkeypatch):
    """A numba that ignores its options."""

    @compiler.jit
    def talking(numbers):
        print(numbers.size)

    monkeypatch.setattr(declared, "talking", talking, raising=False)
    with pytest.raises(UnsupportedError, match=r"declared.talking to code that needs numba's numba_\w+"):
        compiler.object_file(declared.__name__, "talking", ("u32[]",), "talking")


def test_a_numba_that_cannot_compile_is_named(monkeypatch):
    def refuse(_):
        raise NumbaError("no lowering\nmore")

    monkeypatch.setattr("lottapack.rng.kernels.tables.fingerprint.compile", refuse)
    with pytest.raises(UnsupportedError, match=r"numba [\d.]+ cannot compile \S+\.fingerprint: .*no lowering") as error:
        compiler.object_file(FINGERPRINT.module, FINGERPRINT.name, ("u32[]", "u64"), "fingerprint")
    assert "torch then gives the same bits" in error.value.hint
