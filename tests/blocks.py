"""Run the examples of a page as written: Python and commands, one after the other in one process."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_RUN = """
import pathlib, sys, warnings
from lottapack_cli.app import main
warnings.simplefilter("ignore")
for path in sorted(pathlib.Path("blocks").iterdir()):
    text = path.read_text()
    print(path.name, flush=True)
    if path.suffix == ".py":
        exec(compile(text, path.name, "exec"), {"__name__": "__main__"})
    else:
        for line in text.splitlines():
            assert main(line.removeprefix("$ lottapack ").split()) == 0, line
"""

Block = tuple[str, str]
"""The kind, ``python`` or ``console``, and the text."""


def of_page(name: str) -> list[Block]:
    """Return the blocks of a page of ``docs/``."""
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    return re.findall(r"```(python|console)\n(.*?)```", text, flags=re.DOTALL)


def run_all(blocks: list[Block], folder: Path) -> None:
    """Run the blocks in a folder, each with global names of its own."""
    (folder / "blocks").mkdir()
    for number, (kind, block) in enumerate(blocks):
        suffix = "py" if kind == "python" else "txt"
        assert suffix == "py" or all(line.startswith("$ lottapack ") for line in block.splitlines())
        (folder / "blocks" / f"{number:02}.{suffix}").write_text(block)
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line for line in done.stdout.splitlines() if re.fullmatch(r"\d\d\.(py|txt)", line)]
    assert len(ran) == len(blocks)
