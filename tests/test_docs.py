"""Run the guides to training and to ranks as written."""

from pathlib import Path

import pytest
from blocks import of_page, run_all


@pytest.mark.slow
@pytest.mark.parametrize(("page", "kinds"), [("training", {"python", "console"}), ("ranks", {"python"})])
def test_guides_run(page: str, kinds: set[str], tmp_path: Path) -> None:
    for library in ("peft", "mlflow"):
        pytest.importorskip(library)
    found = of_page(page)
    assert {kind for kind, _ in found} == kinds
    run_all(found, tmp_path)
