"""The family ``timm``: in its own environment (from ``make unit``), and without timm."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import lottapack
from lottapack.errors import ArchitectureError, UnsupportedError

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-timm" / "bin" / "python"
VECTOR = ROOT / "spec" / "v1" / "vectors" / "files" / "valid" / "timm_arguments.lotta.safetensors"
MODELS = ("vit_tiny_patch16_224", "resnet10t", "swin_tiny_patch4_window7_224")


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Return the results of timm_checks.py and the folder with its packs."""
    if not PYTHON.is_file():
        pytest.skip("missing: .venv-timm: make unit")
    folder = tmp_path_factory.mktemp("timm")
    command = [PYTHON, "-W", "error", Path(__file__).parent / "timm_checks.py", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder


@pytest.mark.parametrize("name", MODELS)
def test_rebuilt_models_are_the_same(checked, name):
    found = checked[0]["models"][name]
    assert found["same"]
    assert found["verified"] == ["ok"]
    assert found["provenance"] == ["lottapack", "timm", "torch"]
    assert found["head"], "the library's own classifier is the head"


def test_how_a_model_runs_is_not_what_it_is(checked):
    """timm's fused attention, and the batch norms of its convert_sync_batchnorm()."""
    assert checked[0]["run_otherwise"] == {"fused_attn": True, "apart": 0.0, "sync": True}


def test_tuples_stay_tuples(checked):
    assert checked[0]["models"]["vit_tiny_patch16_224"]["config"]["img_size"] == {"tuple": [32, 32]}


@pytest.mark.parametrize("name", MODELS)
def test_two_environments_have_one_set_of_bits(checked, name, tmp_path):
    """Without timm, export gives the same merged weights."""
    _, folder = checked
    lottapack.export(folder / f"{name}.lotta.safetensors", tmp_path / "here.safetensors")
    assert (tmp_path / "here.safetensors").read_bytes() == (folder / f"{name}.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("unknown", "ArchitectureError: timm does not have its own model 'no_such_model'"),
        ("argument", "ArchitectureError: cannot build resnet10t from its configuration: TypeError"),
        ("someone_elses", "ArchitectureError: timm does not have its own model 'theirs'"),
        ("undeclared", 'lottapack.build("timm", ...)'),
    ],
)
def test_what_timm_cannot_build_is_refused(checked, key, message):
    assert message in checked[0][key]


@pytest.fixture
def no_timm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)


def test_without_the_library(no_timm, tmp_path):
    """The rest of a pack stays usable, and the message names the missing library."""
    with pytest.raises(UnsupportedError, match="the model needs timm, which is not installed") as caught:
        lottapack.load(VECTOR)
    assert "pip install 'lottapack[timm]'" in caught.value.hint
    with pytest.raises(UnsupportedError, match="timm, which is not installed"):
        lottapack.build("timm", "resnet18")
    (skipped,) = (check for check in lottapack.verify(VECTOR).checks if check.what == "architecture")
    assert skipped.status == "skipped"
    assert lottapack.inspect(VECTOR).family == "timm"
    lottapack.export(VECTOR, tmp_path / "plain.safetensors")


@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "pretrained_cfg", "features_only", "_x"])
def test_nothing_is_loaded(argument, no_timm):
    with pytest.raises(ArchitectureError, match=f"config.{argument}: a pack cannot set this argument"):
        lottapack.build("timm", "resnet18", **{argument: False})
