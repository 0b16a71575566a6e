"""A hostile file costs time and memory in proportion to its size."""

import tracemalloc
from pathlib import Path

import hostile_files
import pytest
from effort import at_most
from extent import extent
from spec_files import files

import lottapack
from lottapack.format.packfile import open_pack

LARGE = dict(hostile_files.files())
VECTORS = {**files("valid"), **files("invalid")}
MOST_TIMES = 6
"""Times the file's size."""
BESIDE = 1_500_000
"""Bytes beside that: buffers, a thousand problems, the places of 10,000 arguments, the values of one entry, a table."""
SMALL = 150_000
"""Bytes of a file beside whose cost that is much. Larger files are held to the times alone."""
CALLS = 32
"""A byte of the file."""
CALLS_BESIDE = 500_000
"""Beside those: what a short list can ask for, values of one table."""
OF_A_PACK = 4
"""Times the header of a large pack as one trains it."""


def cost(path: Path) -> int:
    """Return the peak bytes of opening or refusing a file, which must not take more calls than its size allows."""
    with at_most(CALLS * path.stat().st_size + CALLS_BESIDE):
        attempt(path)
    tracemalloc.start()
    try:
        attempt(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def allowed(path: Path) -> int:
    size = path.stat().st_size
    return MOST_TIMES * size + (BESIDE if size < SMALL else 0)


def attempt(path: Path) -> None:
    try:
        with open_pack(path) as pack:
            pack.declared_bytes()
    except lottapack.LottapackError as error:
        assert len(str(error)) < 20_000


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """One-time imports and tables do not count."""
    attempt(VECTORS["every_role"][0])


@pytest.mark.parametrize("name", VECTORS)
def test_each_vector_is_cheap(name: str) -> None:
    path = VECTORS[name][0]
    assert cost(path) < allowed(path)


@pytest.mark.parametrize("name", extent([*LARGE][::3], [*LARGE]))
def test_large_files_cost_by_their_size(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(LARGE[name])
    assert cost(path) < allowed(path)


def test_a_large_pack_costs_less(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(hostile_files.as_trained(300))
    with open_pack(path) as pack:
        assert len(pack.descriptor.parameters) == 1200
        header = pack.data_start
    assert cost(path) < OF_A_PACK * header


def test_a_long_chain_of_ties_is_followed_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    path.write_bytes(LARGE["a long chain"])
    with open_pack(path) as pack, at_most(50 * len(pack.descriptor.parameters)):
        assert {pack.descriptor.resolve(name) for name in pack.descriptor.parameters} == {"020000"}
