"""The readers that the kit is run against."""

import pytest
from c_reader import built


@pytest.fixture(scope="session", name="c_reader")
def built_c_reader(tmp_path_factory):
    """The reader in C."""
    return built(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="session")
def checked_c_reader(tmp_path_factory):
    """The same with the sanitizers."""
    return built(tmp_path_factory.mktemp("checked"), "checked")
