"""Train a language model on text, pack it below a size limit, rebuild and evaluate it.

Competitions for small language models limit the bytes of the artifact and measure bits per byte of unseen text. Here
the weights of every linear map are random and come from the seed; the artifact holds adapters and embeddings, quantised
with the least error that fits the limit.

    python examples/small_gpt/train.py                       (some minutes on two cores)
    python examples/small_gpt/train.py --quick               (seconds; learns next to nothing)
    python examples/small_gpt/train.py --text FILES --max-size 60000

Without --text it reads the licences of a Debian system and the topics of Python's `help()`.
"""

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import lottapack

LICENCES = Path("/usr/share/common-licenses")
MODEL = "recurrent_gpt:RecurrentGPT"
ADAPTED = ("queries", "keys", "values", "mix", "up", "down")


@dataclass(frozen=True)
class Settings:
    """The sizes of a run.

    ``held_out``: the part of each text kept for evaluation. ``evaluated``: the most bytes of it to use.
    """

    steps: int = 600
    batch: int = 12
    length: int = 96
    rate: float = 5e-3
    rank: int = 24
    width: int = 128
    hidden: int = 384
    held_out: float = 0.05
    evaluated: int = 1 << 20


QUICK = Settings(steps=6, batch=4, length=32, rank=4, width=48, hidden=96, evaluated=2048)


@dataclass(frozen=True)
class Outcome:
    """Bits per byte of unseen text, before packing and of the rebuilt model; bytes of the packs."""

    trained: float
    rebuilt: float
    packed: int
    uncoded: int
    worst_error: float


def texts(files: list[Path]) -> list[bytes]:
    """Return the documents: the given files, or real text that most machines hold."""
    if files:
        return [path.read_bytes() for path in files]
    from pydoc_data.topics import topics

    licences = sorted(path for path in LICENCES.glob("*") if path.is_file() and not path.is_symlink())
    return [path.read_bytes() for path in licences] + ["\n".join(topics.values()).encode()]


def split(documents: list[bytes], held_out: float) -> tuple[Tensor, Tensor]:
    """Split into bytes to train on and the end of each document to evaluate on."""
    cuts = [round(len(one) * (1 - held_out)) for one in documents]
    parts = zip(documents, cuts, strict=True)
    train, test = zip(*((one[:cut], one[cut:]) for one, cut in parts), strict=True)
    return tuple(torch.frombuffer(bytearray(b"".join(part)), dtype=torch.uint8).long() for part in (train, test))


def build(settings: Settings) -> nn.Module:
    """Build a random backbone with adapters; only adapters, embeddings and norms are trained."""
    model = lottapack.build("python", MODEL, width=settings.width, hidden=settings.hidden)
    return lottapack.scaffold(model, seed=20, rank=settings.rank, targets=ADAPTED, train=["embeddings", "norms"])


def train(model: nn.Module, text: Tensor, settings: Settings) -> None:
    """Train with AdamW and a cosine schedule."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=settings.steps)
    for step in range(settings.steps):
        starts = torch.randint(len(text) - settings.length, (settings.batch,), generator=generator)
        window = text[starts[:, None] + torch.arange(settings.length + 1)]
        loss = F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == settings.steps - 1:
            print(f"step {step}: {float(loss.detach()) / math.log(2):.3f} bits per byte", flush=True)


@torch.no_grad()
def bits_per_byte(model: nn.Module, text: Tensor, length: int) -> float:
    """Return bits per byte of text cut into windows of a length."""
    count = (len(text) - 1) // length
    inputs, labels = (text[first : first + count * length].view(count, length) for first in (0, 1))
    pairs = zip(inputs.split(32), labels.split(32), strict=True)
    total = sum(float(F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum")) for x, y in pairs)
    return total / labels.numel() / math.log(2)


def run(folder: Path, settings: Settings, files: list[Path], max_size: int) -> Outcome:
    """Train, pack below the limit, rebuild from the file alone, evaluate."""
    text, unseen = split(texts(files), settings.held_out)
    unseen = unseen[: settings.evaluated]
    model = build(settings)
    train(model, text, settings)
    trained = bits_per_byte(model, unseen, settings.length)
    uncoded = lottapack.pack(model, folder / "uncoded.lotta.safetensors").size
    result = lottapack.pack(
        model, folder / "small.lotta.safetensors", compression=lottapack.Compression(max_size=max_size)
    )
    rebuilt = lottapack.load(result.path, allow=["recurrent_gpt"])
    worst = max(kept.rms for kept in result.kept)
    return Outcome(trained, bits_per_byte(rebuilt, unseen, settings.length), result.size, uncoded, worst)


def main() -> None:
    """Run the example and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="files to train on")
    parser.add_argument("--max-size", type=int, default=80_000, help="bytes that the artifact may have")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--quick", action="store_true", help="a tiny model and a few steps")
    given = parser.parse_args()
    settings = QUICK if given.quick else Settings(steps=given.steps)
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), settings, given.text, given.max_size)
    print(f"bits per byte of unseen text: {found.trained:.4f} trained, {found.rebuilt:.4f} rebuilt")
    print(f"{found.packed:,} bytes (limit {given.max_size:,}); {found.uncoded:,} without coding")
    print(f"the largest error of a tensor is {found.worst_error:.3g} of its root mean square")


if __name__ == "__main__":
    main()
