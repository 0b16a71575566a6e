"""Memory in huge pages: requested, timed, and avoided where they are slow."""

import mmap
import re
from pathlib import Path

import pytest
import torch

from lottapack.rng import huge_pages
from lottapack.rng.huge_pages import HUGE, HugePages, available

pytestmark = pytest.mark.skipif(not available(), reason="this system gives no huge pages to those who ask")
SIZE = 40 * HUGE


def mapping(address: int) -> tuple[int, set[str]]:
    """Bytes in huge pages and the flags of the mapping that holds an address."""
    here, huge = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(found[1], 16) <= address < int(found[2], 16)
        elif here and line.startswith("AnonHugePages:"):
            huge = int(line.split()[1]) * 1024
        elif here and line.startswith("VmFlags:"):
            return huge, set(line.split()[1:])
    raise AssertionError("no such mapping")


def new() -> torch.Tensor:
    """Map new memory; malloc could reuse free memory of its heap."""
    return torch.frombuffer(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=torch.uint8)


def test_memory_is_taken_in_huge_pages() -> None:
    pages = HugePages(small_s=1.0)  # no page is that slow
    tensor = pages.take(new())
    huge, flags = mapping(tensor.data_ptr() + SIZE // 2)
    assert "hg" in flags
    assert huge >= SIZE - 2 * HUGE


def test_what_costs_more_than_small_pages_is_given_up() -> None:
    pages = HugePages(small_s=-1.0)  # each page is slower
    one, two = (pages.advise(new()) for _ in range(2))
    for tensor in (one, two):
        assert pages.touch(tensor) is tensor
        tensor.fill_(1)
    huge, flags = mapping(two.data_ptr() + SIZE // 2)
    assert "nh" in flags
    assert huge <= 32 * HUGE  # at most the runs that threads had begun with
    later = pages.take(new())
    assert "hg" not in mapping(later.data_ptr() + SIZE // 2)[1]


def test_a_system_that_cannot_be_timed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    advice: list[int] = []

    def old(address: int, size: int, advised: int) -> int:
        advice.append(advised)
        return -1 if advised == huge_pages._POPULATE_WRITE else 0

    monkeypatch.setattr(huge_pages, "_madvise", lambda: old)
    HugePages().take(torch.empty(SIZE, dtype=torch.uint8))
    assert advice[0] == huge_pages._HUGEPAGE
    assert advice[-1] == huge_pages._NOHUGEPAGE


def test_small_tensors_and_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "_madvise", lambda: pytest.fail("advised"))
    for tensor in (torch.empty(HUGE - 1, dtype=torch.uint8), torch.empty(SIZE, device="meta"), torch.empty(0)):
        assert HugePages().take(tensor) is tensor
