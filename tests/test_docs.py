"""Run the guides to training and to ranks as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = """
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


@pytest.mark.parametrize(("page", "kinds"), [("training", {"python", "console"}), ("ranks", {"python"})])
def test_guides_run(page: str, kinds: set[str], tmp_path: Path) -> None:
    for library in ("peft", "mlflow"):
        pytest.importorskip(library)
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    found = re.findall(r"```(python|console)\n(.*?)```", text, flags=re.DOTALL)
    assert {kind for kind, _ in found} == kinds
    (tmp_path / "blocks").mkdir()
    for number, (kind, block) in enumerate(found):
        suffix = "py" if kind == "python" else "txt"
        assert suffix == "py" or all(line.startswith("$ lottapack ") for line in block.splitlines())
        (tmp_path / "blocks" / f"{number:02}.{suffix}").write_text(block)
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line for line in done.stdout.splitlines() if re.fullmatch(r"\d\d\.(py|txt)", line)]
    assert len(ran) == len(found)
