"""Shared by all tests: no network, a quiet transformers, and nothing missing in CI."""

import functools
import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from extent import EVERY
from missing import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# Two processes of tests have as many threads as processors each. A thread that waits for others in a loop, which is
# OpenMP's default, keeps the processor from the thread that it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that starts a command in the background lets it ignore Ctrl-C, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def parsed_operators() -> Iterator[None]:
    """Keep the operators of onnxscript: each torch.onnx.export parses the source of 500 of them again."""
    pytest.importorskip("onnxscript")
    from torch.onnx._internal._lazy_import import onnxscript_apis

    with pytest.MonkeyPatch.context() as patch:
        kept = functools.cache(onnxscript_apis.get_torchlib_ops)
        patch.setattr(onnxscript_apis, "get_torchlib_ops", kept)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage before the tests, and keep what is there by then out of each later collection.

    These are millions of objects of libraries and of pytest. To look at all of them takes seconds each time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries report what is left at the end


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `make test-all` runs (tests/extent.py).

    Put files with slow tests first, then those with most tests, so that no process is left alone at the end.
    """
    if not EVERY:
        left_out = [item for item in items if item.get_closest_marker("every")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("every")]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))
