"""Skip tests that need optional libraries, in an environment with required packages only.

Only ``make test-oldest`` loads it (``-p core_only``): elsewhere a missing library is an error.
"""

from collections.abc import Iterator

import pytest

OPTIONAL = {
    "accelerate",
    "matplotlib",
    "model_signing",
    "oras",
    "peft",
    "scipy",
    "ncps",
    "timm",
    "tokenizers",
    "torch_geometric",
    "transformers",
    "triton",
}


def _skip(fault: BaseException) -> None:
    missing: BaseException | None = fault
    while missing is not None:
        if isinstance(missing, ModuleNotFoundError) and (missing.name or "").partition(".")[0] in OPTIONAL:
            pytest.skip(f"needs {missing.name}")
        missing = missing.__cause__ or missing.__context__


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Skip if a fixture needs a missing library."""
    try:
        return (yield)
    except Exception as fault:
        _skip(fault)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip if a test needs a missing library, also if lottapack reports it."""
    try:
        return (yield)
    except Exception as fault:
        _skip(fault)
        raise
