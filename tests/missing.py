"""With CI=true, a test that lacks something fails instead of being skipped: there everything is installed.

Reasons of such skips begin with ``missing:``, or are ``pytest.importorskip``'s. ``make test-oldest``, which lacks
libraries on purpose, is left alone, and so are systems that do not have all of them.
"""

import os
import sys
from collections.abc import Iterator

import pytest

REASONS = ("Skipped: missing: ", "Skipped: could not import ")


def _require(report: pytest.CollectReport | pytest.TestReport, config: pytest.Config) -> None:
    if os.environ.get("CI") != "true" or sys.platform != "linux" or config.pluginmanager.has_plugin("core_only"):
        return
    if report.skipped and isinstance(report.longrepr, tuple) and report.longrepr[2].startswith(REASONS):
        report.outcome = "failed"
        report.longrepr = f"CI lacks what this test needs. {report.longrepr[2]}"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Fail a module that cannot be imported whole."""
    report = yield
    _require(report, collector.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail a test that skips itself, or is marked so."""
    report = yield
    _require(report, item.config)
    return report
