"""The notebooks run from top to bottom, and their stored output comes from such a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from extent import extent

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=240, resources={"metadata": {"path": "."}}).execute()
"""


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["quickstart", "ranks", "share_and_verify"]


@pytest.mark.parametrize("path", extent(NOTEBOOKS[:1], NOTEBOOKS), ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    for needed in ("nbclient", "ipykernel", "sklearn", "model_signing"):
        pytest.importorskip(needed)
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", RUN, path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_shows_is_of_a_whole_run(path):
    text = path.read_text("utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells) >= 3
    assert all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])
    assert "/tmp/" not in text and "site-packages" not in text
