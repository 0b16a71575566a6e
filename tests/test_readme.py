"""Run the examples of README and guides as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import of_page, run_all

ROOT = Path(__file__).parent.parent


PAGES = {"scaffold": "python", "pack": "console", "load": "python", "random": "python"}
"""The pages of docs/ whose blocks are run one after the other in one folder; others have tests of their own."""


def test_the_quickstart_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    run(block, tmp_path)
    assert (tmp_path / "digits.lotta.safetensors").stat().st_size < 200_000


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """Leaves out those that need a registry: tests/registry runs them."""
    run(CHECKPOINT, tmp_path)
    (block,) = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    lines = [line.removeprefix("$ lottapack ") for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["pack", "verify", "push", "pull"]
    for line in lines[:2]:
        command(line, tmp_path)


@pytest.mark.every
@pytest.mark.slow
def test_the_guides_run_from_top_to_bottom(tmp_path: Path) -> None:
    blocks = [("python", CHECKPOINT)]
    for page, kind in PAGES.items():
        blocks += [block for block in of_page(page) if block[0] == kind]
    # This option packs the paper's Llamas: tests/unit/test_size_table.py.
    run_all([(kind, re.sub(r"(?m)^.* --table.*\n", "", block)) for kind, block in blocks], tmp_path)
    assert (tmp_path / "digits.safetensors").stat().st_size > (tmp_path / "digits.lotta.safetensors").stat().st_size
    assert (tmp_path / "digits.pt").stat().st_size < 200_000
    assert (tmp_path / "sizes.svg").is_file()


def test_the_readme_is_read_in_90_seconds() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 650


CHECKPOINT = """
import os, torch, lottapack
from torch import nn
model = lottapack.scaffold(nn.Sequential(nn.Embedding(500, 64), nn.Linear(64, 64), nn.Linear(64, 10)), seed=1, rank=2)
os.mkdir("checkpoint-500")
torch.save(model.state_dict(), "checkpoint-500/pytorch_model.bin")
"""


def run(block: str, folder: Path) -> None:
    (folder / "block.py").write_text(block)
    subprocess.run([sys.executable, "block.py"], cwd=folder, check=True, timeout=120, env=_environment())


def command(line: str, folder: Path) -> None:
    command = [sys.executable, "-m", "lottapack", *line.split()]
    subprocess.run(command, cwd=folder, check=True, timeout=120, env=_environment(), capture_output=True)


def test_links_lead_somewhere() -> None:
    for page in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "benchmarks" / "RESULTS.md",
        ROOT / "spec" / "README.md",
        *(ROOT / "spec" / "decisions").glob("*.md"),
    ):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"


def _environment() -> dict[str, str]:
    """Run against this checkout, installed or not."""
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
