"""Runs of elements: every backend gives the reference's bits."""

import numpy as np
import pytest
import torch
from equality_cases import DTYPES, TABLES, bits_of, blank, source
from test_equality import everywhere

from lottapack.errors import UnsupportedError
from lottapack.rng import fill_runs_, reference, runs, threads
from lottapack.rng.kernels.kernel import Kernel


def listed(*pairs):
    starts, lengths = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    return starts, lengths


def columns(rows, width, lo, hi, start=0):
    """Return the runs of the columns lo to hi - 1 of a matrix."""
    starts = np.arange(rows, dtype=np.int64) * width + lo + start
    return starts, np.full(rows, hi - lo, np.int64)


CASES = {
    "none": listed(),
    "empty ones": listed((3, 0), (7, 0)),
    "one element": listed((5, 1)),
    "whole rows": columns(9, 100, 0, 100),
    "narrow columns": columns(300, 17, 3, 5),
    "wide columns": columns(6, 5000, 1020, 2060),
    "far apart": listed((0, 3), (10**6, 1500), (2**32 - 700, 1500), (2**62, 9)),
    "of any length": listed((1, 1), (2, 1023), (2047, 1), (2048, 2049), (9000, 0), (9001, 5)),
    "the last": listed((2**63 - 1500, 1000), (2**63 - 200, 200)),
    "beyond 32 bits of blocks": columns(20, 700, 5, 300, 2**45),
}


def expected(one, starts, lengths):
    parts = [reference.elements(one, *pair) for pair in zip(starts.tolist(), lengths.tolist(), strict=True)]
    return np.concatenate([np.empty(0, parts[0].dtype if parts else "u4"), *parts])


@everywhere
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_runs(backend, device, table, dtype):
    one = source(table, dtype)
    for name, (starts, lengths) in CASES.items():
        tensor = blank(one, int(lengths.sum()), device)
        if tensor.numel():
            backend.fill_runs(tensor, one, starts, lengths)
            assert np.array_equal(bits_of(tensor), expected(one, starts, lengths)), name


@everywhere
def test_seams_leave_no_trace(backend, device, monkeypatch):
    from lottapack.rng import cpu, torch_ops

    monkeypatch.setattr(cpu, "PIECE", 700)
    monkeypatch.setattr(torch_ops, "CHUNK", 2048)
    one = source("normal4", "float32")
    for name in ("narrow columns", "wide columns", "of any length", "far apart"):
        starts, lengths = CASES[name]
        tensor = blank(one, int(lengths.sum()), device)
        backend.fill_runs(tensor, one, starts, lengths)
        assert np.array_equal(bits_of(tensor), expected(one, starts, lengths)), name


@pytest.mark.parametrize("long", [1, 4, 1024, 10**6])
def test_long_and_short_runs_together(long, monkeypatch):
    monkeypatch.setattr(runs, "LONG", long)
    one = source("normal16", "bfloat16")
    for starts, lengths in CASES.values():
        tensor = blank(one, int(lengths.sum()))
        found = bits_of(fill_runs_(tensor, one, starts, lengths))
        assert found.tolist() == expected(one, starts, lengths).tolist()


def test_many_rows_are_one_call(monkeypatch):
    """A column shard of a large matrix does not call a kernel a row."""
    calls = []
    real = Kernel.__call__

    def noted(kernel, *given):
        if kernel.name.startswith("fill_runs"):
            calls.append(given[1].size)
        return real(kernel, *given)

    monkeypatch.setattr(Kernel, "__call__", noted)
    one = source("normal16", "float32")
    starts, lengths = columns(4096, 512, 128, 256)
    fill_runs_(blank(one, int(lengths.sum())), one, starts, lengths)
    assert sum(calls) == 4096
    assert len(calls) <= 2 * (4096 * 128 // threads.PIECE + 1)


@pytest.mark.parametrize(
    ("starts", "lengths", "message"),
    [
        ([0], [3], "do not describe runs of 4 elements"),
        ([0, 3], [4], "do not describe runs of 4 elements"),
        ([0, 1], [5, -1], "do not describe runs of 4 elements"),
        ([0, 1], [2, 2], "overlap or are not in order"),
        ([9, 1], [2, 2], "overlap or are not in order"),
        ([-1], [4], "the range -1"),
        ([2**63 - 2], [4], "exceeds the stream"),
    ],
)
def test_impossible_runs_are_refused(starts, lengths, message):
    one = source("normal16", "float32")
    tensor = blank(one, 4)
    with pytest.raises(UnsupportedError, match=message):
        fill_runs_(tensor, one, np.array(starts), np.array(lengths))
    assert (tensor == 777).all()
    with pytest.raises(UnsupportedError, match="cannot fill a tensor of dtype float16"):
        fill_runs_(torch.empty(4, dtype=torch.float16), one, *listed((0, 4)))
