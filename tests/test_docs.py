"""Run the guides to training and to ranks as written."""

from pathlib import Path

import pytest
from blocks import of_page, run_all
from extent import extent


@pytest.mark.slow
@pytest.mark.parametrize("page", extent(["ranks"], ["ranks", "training"]))
def test_guides_run(page: str, tmp_path: Path) -> None:
    for library in ("peft", "mlflow"):
        pytest.importorskip(library)
    found = of_page(page)
    assert {kind for kind, _ in found} == ({"python"} if page == "ranks" else {"python", "console"})
    run_all(found, tmp_path)
