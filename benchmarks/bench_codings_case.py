"""Compare a whole artifact, twelve blocks with adapters of rank 160, with int8 by row and zstandard.

python benchmarks/bench_codings_case.py

The shapes come from an entry of a public competition for language models in 16 MB: 12 blocks of width 512, random
MLPs of width 1,536 with adapters, random attention, tied embeddings of 1,024 tokens. The trained values are drawn from
normal distributions with standard deviation 0.05 (embeddings: 0.3). Both sides keep the same error, tensor by tensor.
The entry's script keeps embeddings in float16 and vectors in float32. It rounds the rest to 8 bits (three blocks to 6)
with a scale of at least 1/127 for each row, and compresses everything with zstandard 22. Needs `zstandard`.
"""

import io
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import lottapack

BLOCKS, WIDTH, HIDDEN, RANK, TOKENS = 12, 512, 1536, 160, 1024
COARSE = (5, 6, 7)
"""Blocks with 6 bits."""
MILLION = 1e6


def model() -> nn.Module:
    """A model with the tensors of the artifact. It is packed, never run."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=False)

    blocks = [
        nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.LayerNorm(WIDTH),
            *(linear(WIDTH, outputs) for outputs in (WIDTH, WIDTH // 2, WIDTH // 2, WIDTH)),
            linear(WIDTH, HIDDEN),
            linear(HIDDEN, WIDTH),
        )
        for _ in range(BLOCKS)
    ]
    made = lottapack.scaffold(
        nn.Sequential(nn.Embedding(TOKENS, WIDTH), *blocks),
        seed=1,
        rank=RANK,
        targets=["*.6", "*.7"],
        train=["embeddings", "norms"],
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.requires_grad and value.dim():
                value.normal_(0, 0.3 if name == "0.weight" else 0.05, generator=generator)
    return made


def trained(made: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that both sides store, by name."""
    return {name: value.detach() for name, value in made.named_parameters() if value.requires_grad}


def is_adapter(name: str) -> bool:
    return name.endswith(("lora_A", "lora_B"))


def by_row(values: Tensor, coarse: bool, error: float | None) -> tuple[Tensor, Tensor]:
    """Round to int8 codes with a scale for each row, as the entry's script does, or to a relative error."""
    if error is None:
        scale = (values.abs().amax(1) / 127).clamp_min(1 / 127)
    else:
        scale = error * 12**0.5 * values.square().mean(1).sqrt()
    codes = (values / scale[:, None]).round()
    if coarse:
        codes = 4 * (codes / 4).round()
    return codes.clamp(-127, 127).to(torch.int8), scale.half()


def rms(before: Tensor, after: Tensor) -> float:
    """Return the root mean square error, relative to that of the tensor."""
    return float((after.double() - before.double()).square().mean().sqrt() / before.double().square().mean().sqrt())


def hand_made(tensors: dict[str, Tensor], coarse: tuple[int, ...], error: float | None) -> tuple[int, dict[str, float]]:
    """Return the bytes of the artifact and the error of each tensor."""
    import zstandard  # here, because other benchmarks use the model without it

    kept: dict[str, object] = {}
    errors = {}
    for name, value in tensors.items():
        if is_adapter(name):
            codes, scale = kept[name] = by_row(value, int(name.partition(".")[0]) - 1 in coarse, error)
            errors[name] = rms(value, codes.float() * scale.float()[:, None])
        elif name == "0.weight":
            half = kept[name] = value.half()
            errors[name] = rms(value, half)
        else:
            kept[name], errors[name] = value, 0.0
    stream = io.BytesIO()
    torch.save(kept, stream)
    return len(zstandard.ZstdCompressor(level=22).compress(stream.getvalue())), errors


def packed(made: nn.Module, errors: dict[str, float], coarse: tuple[int, ...]) -> tuple[int, dict[str, float]]:
    """Pack with at most these errors; return the bytes and each tensor's error. Norms stay exact."""

    def least(chosen: bool) -> float:
        return min(
            error
            for name, error in errors.items()
            if is_adapter(name) and (int(name.partition(".")[0]) - 1 in coarse) is chosen
        )

    coding = {f"{block + 1}.*.lora_[AB]": f"trellis8@{least(True)!r}" for block in coarse}
    coding |= {"adapters": f"trellis8@{least(False)!r}", "embeddings": f"trellis8@{errors['0.weight']!r}"}
    with tempfile.TemporaryDirectory() as folder:
        result = lottapack.pack(
            made, Path(folder) / "case.lotta.safetensors", compression=lottapack.Compression(coding=coding)
        )
        state = lottapack.load(result.path).state_dict()
        return result.size, {name: rms(value, state[name]) for name, value in trained(made).items()}


def main() -> None:
    """Print a table."""
    made = model()
    tensors = trained(made)
    print(f"{sum(value.numel() for value in tensors.values()):,} trained values")
    print("artifact | error of adapters | by hand, bytes | pack, bytes | pack / by hand")
    for label, coarse, error in (
        ("8 bits", (), None),
        ("8 bits, three blocks 6 bits", COARSE, None),
        ("error 0.01", (), 0.01),
    ):
        hand, due = hand_made(tensors, coarse, error)
        size, reached = packed(made, due, coarse)
        above = [name for name, value in reached.items() if value > due[name]]
        assert not above, f"larger errors: {above}"
        shown = sorted({f"{value:.3f}" for name, value in reached.items() if is_adapter(name)})
        print(f"{label} | {', '.join(shown)} | {hand:,} | {size:,} | {size / hand:.4f}", flush=True)


if __name__ == "__main__":
    main()
