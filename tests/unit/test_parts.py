"""Parts of tensors, against indexing a tensor of numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottapack.weights import parts


@st.composite
def some_part(draw):
    part = parts.whole(draw(st.lists(st.integers(0, 6), max_size=4)))
    for dim, size in enumerate(part.whole):
        chosen = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        ranges = parts.join([(index, index + 1) for index, taken in enumerate(chosen) if taken])
        if draw(st.booleans()):
            part = part.with_range(dim, ranges)
    return part


def numbers(shape):
    return torch.arange(math.prod(shape)).reshape(shape)


@settings(deadline=None, max_examples=150)
@given(part=some_part(), limit=st.integers(1, 60))
def test_runs_and_pieces_are_what_indexing_gives(part, limit):
    tensor = numbers(part.whole)
    expected = tensor
    for dim in range(len(part.whole)):
        expected = expected.index_select(dim, torch.from_numpy(part.indices(dim)))
    taken = part.take(tensor)
    assert torch.equal(taken, expected)
    assert taken.is_contiguous()
    assert (tuple(taken.shape), taken.numel(), taken is tensor) == (part.shape, part.numel, part.is_whole)
    starts, lengths = part.runs()
    found = [number for lo, n in zip(starts.tolist(), lengths.tolist(), strict=True) for number in range(lo, lo + n)]
    assert found == taken.flatten().tolist()
    assert (starts[1:] > starts[:-1] + lengths[:-1]).all()
    cut = list(parts.pieces(part.whole, limit))
    assert [number for piece in cut for number in piece.take(tensor).flatten().tolist()] == tensor.flatten().tolist()
    assert all(0 < piece.numel <= limit and piece.runs()[0].size == 1 for piece in cut)


@pytest.mark.parametrize("size", range(10))
@pytest.mark.parametrize("count", range(1, 6))
def test_chunks_are_those_of_torch(size, count):
    expected = [chunk.tolist() for chunk in torch.arange(size).chunk(count)] if size else []
    expected += [[]] * (count - len(expected))
    found = [parts.chunk(parts.everything(size), count, number) for number in range(count)]
    assert [[i for lo, hi in ranges for i in range(lo, hi)] for ranges in found] == expected


def test_runs_of_a_shard_along_dim_0_are_one_range():
    part = parts.whole((100, 7, 3)).with_range(0, ((20, 30),))
    assert [array.tolist() for array in part.runs()] == [[20 * 21], [10 * 21]]


def test_whole_rows_where_they_fit():
    assert {piece.shape for piece in parts.pieces((10, 4), 9)} == {(2, 4)}
    assert {piece.shape for piece in parts.pieces((3, 10, 4), 9)} == {(1, 2, 4)}
    assert [piece.shape for piece in parts.pieces((2, 10), 4)][:3] == [(1, 4), (1, 4), (1, 2)]
    assert np.prod([piece.shape for piece in parts.pieces((), 4)]) == 1
