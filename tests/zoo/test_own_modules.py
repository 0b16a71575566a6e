"""Modules of many kinds: scaffolded with the defaults, trained a step, packed and loaded; or refused."""

import own_modules
import pytest
import sweep
from sweep_libraries import of_own

REFUSED = own_modules.REFUSED


@pytest.mark.parametrize("name", [name for name in own_modules.MODULES if name not in REFUSED])
@pytest.mark.filterwarnings("ignore")
def test_a_module_comes_back(name):
    (case,) = of_own([name])
    found = sweep.examine(case, allow=["own_modules"])
    assert found["stage"] == "done", found
    assert "no inputs" not in found, found
    assert (found["dead"], found["unused"]) == ([], 0)
    assert found["adapters"] >= 1


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_a_module_is_refused(name):
    (case,) = of_own([name])
    found = sweep.examine(case, allow=["own_modules"])
    assert found["stage"] in ("build", "scaffold")
    assert REFUSED[name] in found["why"]
