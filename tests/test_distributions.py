"""The distributions: the wheel in a fresh environment, and the sdist."""

import json
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from extent import extent

from lottapack.rng.kernels.machine import processor

ROOT = Path(__file__).parents[1]
VALID = ROOT / "spec" / "v1" / "vectors" / "files" / "valid"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist and a wheel from it; return the folder."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    # One target of an architecture, because each takes half a minute; in `make test` none.
    environment = {**os.environ, "LOTTAPACK_KERNELS": extent("none", "v3,v8")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.slow
def test_the_wheel_works_by_itself(built, tmp_path):
    """Install the wheel alone; its dependencies come from this environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True, timeout=120)
    (home,) = (tmp_path / "env").glob("[lL]ib/**/site-packages")
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        wheel.extractall(home)
    mine = {str(ROOT), str(ROOT / "cli")}
    others = [path for path in sys.path if path.endswith("site-packages") and path not in mine]
    (home / "others.pth").write_text("\n".join(others))
    python = next((tmp_path / "env").glob("*/python"))
    pack = VALID / "builtin_tables.lotta.safetensors"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: object) -> str:
        command = [python, "-m", "lottapack", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import lottapack, lottapack_cli; print(lottapack.__file__, lottapack_cli.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.count(str(home)) == 2
    assert json.loads(run("verify", pack, "--json"))["ok"]
    assert json.loads(run("inspect", pack, "--json"))["seed"]


def test_the_wheel_has_the_library_and_the_command_alone(built):
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"lottapack", "lottapack_cli", "lottapack_serve"}
    assert {"lottapack/py.typed", "lottapack_cli/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


LINUX_ON_X86 = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="other machines compile for themselves alone"
)


@pytest.mark.every
@LINUX_ON_X86
def test_the_wheel_has_code_for_arm64_too(built):
    folder = "lottapack/rng/kernels/shipped"
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        listed = json.loads(wheel.read(f"{folder}/kernels.json"))
        for kernel in listed:
            code = wheel.read(f"{folder}/{kernel['file']}")
            machine = {"x86_64-linux": 62, "aarch64-linux": 183}[kernel["platform"]]  # of the ELF header
            assert int.from_bytes(code[18:20], "little") == machine
    of = {
        name: {one["name"] for one in listed if one["platform"] == name} for name in ("x86_64-linux", "aarch64-linux")
    }
    assert of["aarch64-linux"] == of["x86_64-linux"]
    assert len(of["aarch64-linux"]) > 10


@pytest.mark.every
@LINUX_ON_X86
def test_the_code_for_arm64_has_the_bits(built, tmp_path):
    """An emulator executes it: fills have the reference's bits, and products are summed in the stated order."""
    pytest.importorskip("unicorn")
    pytest.importorskip("elftools")
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        for name in wheel.namelist():
            if "-aarch64-" in name:
                (tmp_path / Path(name).name).write_bytes(wheel.read(name))
    command = [sys.executable, "-W", "error", ROOT / "tests" / "arm64" / "emulated.py", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("126 fills, 60 products, ")


FIRST_WEIGHT = """
import sys, time
sys.modules["numba"] = None
start = time.perf_counter()
import numpy as np
from lottapack import rng
from lottapack.rng import arrays, cpu, selfcheck
from lottapack.rng.backends import numba_works
from lottapack.rng.kernels import declared, object_files, shipped
from lottapack.rng.kernels.machine import processor
object_files.read = object_files.write = None
if sys.platform == "linux" and processor().has("avx2"):  # not all kernels of AVX-512 are in this wheel
    cpu.declared.FORMULA = False
    declared.CHECKED = declared.CHECKED[:2]
assert numba_works()
for answer in selfcheck.ANSWERS:
    out = np.empty(answer.count, np.uint32 if answer.dtype == "float32" else np.uint16)
    cpu.fill_bits(out, answer.source, answer.start)
    assert cpu.fingerprint_bits(out, answer.start) == answer.fingerprint
print(time.perf_counter() - start)
"""


@pytest.mark.every
@pytest.mark.skipif(sys.platform != "linux", reason="the wheel has kernels for Linux alone")
def test_the_wheel_compiles_nothing(built, tmp_path):
    """It has the kernels for this processor: numba cannot even be imported."""
    if platform.machine() == "x86_64" and not processor().has("avx2"):
        pytest.skip("this processor cannot run the code in this wheel")
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        wheel.extractall(tmp_path)
    command = [sys.executable, "-W", "error", "-c", FIRST_WEIGHT]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 3  # a fraction of a second on a quiet machine; compiling takes 6


def test_the_source_has_what_a_stranger_needs(built):
    with tarfile.open(only(built, "*.tar.gz")) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {"spec/README.md", "spec/v1/descriptor.md", "tests/test_house.py", "CHANGELOG.md", "LICENSE", "README.md"}
    assert wanted <= names
    assert not [name for name in names if name.startswith((".venv", "build/", ".git/"))]
