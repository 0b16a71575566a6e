"""What a hostile file costs: under a second, and memory by the file's size, not by what the file says."""

import time
import tracemalloc
from pathlib import Path

import hostile_files
import pytest
from spec_files import files

import lottapack
from lottapack.format.packfile import open_pack

LARGE = dict(hostile_files.files())
VECTORS = {**files("valid"), **files("invalid")}
MOST_TIMES = 40
"""Times the file's size: Python's objects for the shortest JSON values, empty arrays, are that much larger."""
BESIDE = 1_500_000
"""Bytes beside that: a table's tensor, buffers for reading, places of what is still to be looked at."""


def cost(path: Path) -> tuple[float, int]:
    """Seconds of processor time, and the most bytes that are held at once, of opening a file or refusing it."""
    begin = time.process_time()
    attempt(path)
    seconds = time.process_time() - begin
    tracemalloc.start()
    try:
        attempt(path)
        return seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def attempt(path: Path) -> None:
    try:
        with open_pack(path) as pack:
            pack.declared_bytes()
    except lottapack.LottapackError as error:
        assert len(str(error)) < 20_000


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """What is imported and computed once is no file's cost."""
    attempt(VECTORS["every_role"][0])


@pytest.mark.parametrize("name", VECTORS)
def test_each_vector_is_cheap(name: str) -> None:
    path = VECTORS[name][0]
    seconds, held = cost(path)
    assert seconds < 1
    assert held < MOST_TIMES * path.stat().st_size + BESIDE


@pytest.mark.parametrize("name", LARGE)
def test_large_files_cost_by_their_size(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(LARGE[name])
    seconds, held = cost(path)
    assert seconds < 1
    assert held < MOST_TIMES * path.stat().st_size + BESIDE


def test_a_long_chain_of_ties_is_followed_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    path.write_bytes(LARGE["a long chain"])
    with open_pack(path) as pack:
        begin = time.process_time()
        assert {pack.descriptor.resolve(name) for name in pack.descriptor.parameters} == {"020000"}
        assert time.process_time() - begin < 1
