"""Chromium of this machine, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str:
    """Return its path; without it the test is skipped."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("missing: Chromium: apt-get install chromium")
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it."""
    path = executable()
    expect.set_options(timeout=120_000)  # as long as Playwright waits for elements
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield launched
        launched.close()
