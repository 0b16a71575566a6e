"""A package of models that records its import, and packs that need it."""

import sys
from pathlib import Path

import msgspec
import pytest
import torch
from family_packs import MODELS, PACKAGE

import lottapack
from lottapack.format import recipe
from lottapack.format.descriptor import Architecture


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write the package; it is importable and not imported."""
    home = tmp_path / "site"
    folder = home / PACKAGE
    folder.mkdir(parents=True)
    for name in ("__init__", "nets", "other"):
        text = MODELS if name == "nets" else ""
        note = "import pathlib\npathlib.Path(__file__).with_suffix('.imported').touch()\n"
        (folder / f"{name}.py").write_text(note + text, "utf-8")
    (folder / "broken.py").write_text("import a_package_that_nobody_has\n", "utf-8")
    (folder / "raises.py").write_text("raise RuntimeError('not today')\n", "utf-8")
    monkeypatch.syspath_prepend(home)
    monkeypatch.setenv("PYTHONPATH", str(home), prepend=":")
    forget()
    yield folder
    forget()


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def net_pack(package, tmp_path) -> Path:
    """Write a pack of the package's Net, then forget its code."""
    model = lottapack.scaffold(lottapack.build("python", f"{PACKAGE}.nets:Net", width=8, norm=(4, 1)), seed=3, rank=2)
    path = lottapack.pack(model, tmp_path / "net.lotta.safetensors").path
    forget()
    for mark in package.glob("*.imported"):
        mark.unlink()
    return path


@pytest.fixture
def pack_of(tmp_path):
    """Makes a pack with arbitrary metadata."""

    def make(class_: str, config: dict, family: str = "python") -> Path:
        plain = lottapack.scaffold(torch.nn.Sequential(torch.nn.Linear(4, 4)), seed=1, rank=1, train="biases")
        plan, tensors = lottapack.folders.checkpoint.split(plain.state_dict())
        architecture = Architecture(family=family, class_=class_, config=config)
        changed = msgspec.structs.replace(plan, architecture=architecture)
        carried = torch.frombuffer(bytearray(changed.to_bytes()), dtype=torch.uint8)
        state = {recipe.BUFFER: carried, **tensors}
        return lottapack.pack(state, tmp_path / "asks.lotta.safetensors").path

    return make
