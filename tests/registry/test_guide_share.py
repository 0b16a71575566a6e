"""Run the guide to sharing as written, with another registry address."""

import os
import re
import subprocess
import sys
from pathlib import Path

from hub_runs import Hub, make_pack

import lottapack

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "share.md").read_text("utf-8").partition("\n## Share\n")[2].partition("\n## ")[0]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", SECTION, flags=re.DOTALL)


def run(script: str, hub: Hub, folder: Path, **more: str) -> str:
    """A shell script in a folder; returns what it printed."""
    commands = Path(sys.executable).parent
    paths = [str(ROOT), str(ROOT / "cli")]
    environment = hub.environment(PATH=f"{commands}:{os.environ['PATH']}", PYTHONPATH=os.pathsep.join(paths), **more)
    line = ["bash", "-ec", script]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lines(block: str) -> str:
    assert all(line.startswith("$ lottapack ") for line in block.splitlines())
    return block.replace("$ lottapack ", f"{sys.executable} -m lottapack_cli ")


def test_the_hub(hub: Hub, tmp_path: Path) -> None:
    make_pack(tmp_path / "digits.lotta.safetensors")
    token = hub.server.token("writer", "write")
    out = run(lines(blocks("console")[0]), hub, tmp_path, HF_TOKEN=token)
    assert "pushed my-org/digits@v1 (new repository)" in out
    assert "private" in out  # list says so
    assert (tmp_path / "digits-full" / "model.safetensors").is_file()
    [python] = blocks("python")
    (tmp_path / "block.py").write_text(python)
    run(f"{sys.executable} block.py", hub, tmp_path, HF_TOKEN=token)


def test_an_oci_registry(hub: Hub, tmp_path: Path) -> None:
    from oci_registries import running

    pack = make_pack(tmp_path / "digits.lotta.safetensors")
    with running(tmp_path) as registry:
        script = lines(blocks("console")[1]).replace("127.0.0.1:5055", registry.host)
        out = run(script, hub, tmp_path, LOTTAPACK_CACHE=str(tmp_path / "cache"))
    assert lottapack.verify(out.splitlines()[-1]).sha256 in out
    assert Path(out.splitlines()[-1]).read_bytes() == pack.read_bytes()
