"""The README's Python is run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path) -> None:
    # What is shared needs a registry: tests/registry runs it.
    text = re.sub(r"### Share\n.*?(?=\n### )", "", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 4
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.py").write_text(block)
        subprocess.run([sys.executable, f"block{number}.py"], cwd=tmp_path, check=True, timeout=120, env=_environment())
    assert (tmp_path / "digits.safetensors").stat().st_size > (tmp_path / "digits.lotta.safetensors").stat().st_size
    assert (tmp_path / "digits.pt").stat().st_size < 200_000


def test_links_lead_somewhere() -> None:
    for page in (
        ROOT / "README.md",
        ROOT / "docs" / "training.md",
        ROOT / "spec" / "README.md",
        *(ROOT / "spec" / "decisions").glob("*.md"),
    ):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"


def _environment() -> dict[str, str]:
    """Run against this checkout, whether or not it is installed."""
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
