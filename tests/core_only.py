"""For an environment with nothing but what lottapack needs: what asks for another library is skipped, not failed.

Loaded with ``-p core_only`` by ``make test-oldest``, and by nothing else: elsewhere a missing library is a fault.
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
    """A fixture that needs one."""
    try:
        return (yield)
    except Exception as fault:
        _skip(fault)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """A test that needs one, also where lottapack said so."""
    try:
        return (yield)
    except Exception as fault:
        _skip(fault)
        raise
