"""What works without torch, in an environment that ``make unit`` makes."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lottapack_serve import background

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-light" / "bin" / "python"
VALID = ROOT / "spec" / "v1" / "vectors" / "files" / "valid"
PACKS = sorted(VALID.glob("*.lotta.safetensors"))
PACK = VALID / "every_role.lotta.safetensors"
DRAWN_BY_TORCH = VALID / "torch_cpu.lotta.safetensors"
INSTALL = "pip install 'lottapack[torch]'"

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run Python without torch, in an empty folder."""
    if not PYTHON.is_file():
        pytest.skip("missing: .venv-light: make unit")

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [PYTHON, "-W", "error", *map(str, arguments)]
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
        told = {**plain, "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
        return subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, timeout=300, check=False)

    return call


@pytest.fixture
def command(start: Start) -> Callable[..., Any]:
    """Run ``lottapack ... --json`` there; return its object."""

    def call(*arguments: object, code: int = 0, **environment: str) -> Any:
        done = start("-m", "lottapack", *arguments, "--json", **environment)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout or done.stderr)

    return call


def known_answers() -> dict[str, dict[str, str]]:
    """Return by pack the SHA-256 of each merged weight, from the vectors."""
    return {
        str(pack): json.loads(Path(str(pack).replace(".lotta.safetensors", ".json")).read_text("utf-8"))[
            "merged_sha256"
        ]
        for pack in PACKS
        if not pack.name.startswith("torch_cpu")
    }


def test_torch_is_not_there(start):
    done = start("-c", "import torch")
    assert "ModuleNotFoundError" in done.stderr


def test_every_vector_is_exported_with_its_bits(start, tmp_path):
    answers = known_answers()
    done = start(Path(__file__).with_name("exported_digests.py"), tmp_path, *answers)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answers


def test_verify_checks_all_but_the_architecture(command):
    found = command("verify", PACK)
    statuses = {check["what"]: check["status"] for check in found["checks"]}
    assert found["ok"]
    assert statuses == {"format": "ok", "sha256": "ok", "fingerprint": "ok", "architecture": "skipped"}
    (skipped,) = (check["detail"] for check in found["checks"] if check["status"] == "skipped")
    assert INSTALL in skipped


def test_a_damaged_pack_is_refused(command, tmp_path):
    data = bytearray(PACK.read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged.lotta.safetensors").write_bytes(data)
    assert not command("verify", "damaged.lotta.safetensors", code=1)["ok"]


def test_inspect_report_and_files(command):
    assert command("inspect", PACK)["seed"]
    assert command("report", PACK)
    assert command("export", VALID / "files.lotta.safetensors", "-o", "files", "--format", "files")["path"]


def test_sign_and_verify(command, tmp_path):
    (tmp_path / "m.lotta.safetensors").write_bytes(PACK.read_bytes())
    for words in ("ecparam -name prime256v1 -genkey -noout -out me.pem", "ec -in me.pem -pubout -out me.pub"):
        subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    command("sign", "m.lotta.safetensors", "--key", "me.pem")
    checks = command("verify", "m.lotta.safetensors", "--key", "me.pub")["checks"]
    assert ("signature", "ok") in {(check["what"], check["status"]) for check in checks}


def test_push_list_and_pull(command, start, tmp_path):
    with background(tmp_path / "registry") as running:
        told = {"HF_ENDPOINT": running.url, "HF_HOME": str(tmp_path / "home")}
        command("push", PACK, "me/digits", **told)
        assert "me/digits" in json.dumps(command("list", "me", **told))
        assert command("log", "me/digits", **told)
        pulled = command("pull", "me/digits", **told)["path"]
        assert Path(pulled).read_bytes() == PACK.read_bytes()
        code = "import lottapack, sys; print(len(lottapack.numpy.load('me/digits')))"
        assert int(start("-c", code, **told).stdout) > 1


def test_draw_gives_the_known_numbers(start):
    code = "import lottapack; print(lottapack.numpy.draw('x', 3, seed=1, distribution='sign1').tolist())"
    done = start("-c", code)
    import lottapack

    assert json.loads(done.stdout) == lottapack.draw("x", 3, seed=1, distribution="sign1").tolist()


@pytest.mark.parametrize(
    "words",
    [
        ["run", PACK, "--tokens", "1"],
        ["pack", "model.pt", "-o", "m.lotta.safetensors"],
        ["export", PACK, "-o", "adapter", "--format", "peft"],
        ["export", PACK, "-o", "m.safetensors", "--device", "cuda"],
        ["export", DRAWN_BY_TORCH, "-o", "m.safetensors"],
        ["bench"],
        ["demo"],
    ],
    ids=lambda words: words[0],
)
def test_commands_that_need_torch_say_what_to_install(command, words):
    fault = command(*words, code=2)
    assert INSTALL in json.dumps(fault)


@pytest.mark.parametrize("name", ["load", "scaffold", "pack", "draw", "switch"])
def test_functions_that_need_torch_say_what_to_install(start, name):
    arguments = "'x', 3, seed=1" if name == "draw" else "'m.lotta.safetensors'"
    done = start("-c", f"import lottapack; lottapack.{name}({arguments})")
    assert done.returncode == 1
    assert INSTALL in done.stderr.splitlines()[-1]
