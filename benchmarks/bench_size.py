"""The size of a pack of a Llama at the paper's shape, beside the full checkpoint: ``lottapack report``.

``python benchmarks/bench_size.py [SCALE ...]``
"""

import sys
import tempfile
from pathlib import Path

import torch
from llama import SHAPES, scaffolded

import lottapack

PAPER = {"3M": (5, 4), "30M": (57, 24), "300M": (586, 103), "600M": (1184, 105), "900M": (2312, 109)}
"""The paper's Table 10 in MB: fp16 and LottaLoRA."""


def main() -> None:
    """Print one line for each scale and dtype, beside the paper's row."""
    print("Llama, tied embeddings, rank 8 on q, k, v, o; sizes in MB (1e6 bytes)")
    print(f"{'scale':>6} {'dtype':>9} {'pack':>9} {'fp16':>9} {'ratio':>7}   paper: LottaLoRA / fp16")
    for scale in sys.argv[1:] or ["30M"]:
        if scale not in SHAPES:
            sys.exit(f"unknown scale {scale}; known: {', '.join(SHAPES)}")
        for dtype in (torch.float32, torch.float16):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "llama.lotta.safetensors"
                lottapack.pack(scaffolded(scale, dtype=dtype), path)
                found = lottapack.report(path)
            fp16 = next(row.size for row in found.forms if row.label == "fp16")
            name = str(dtype).removeprefix("torch.")
            sizes = f"{found.size / 1e6:9.2f} {fp16 / 1e6:9.2f} {fp16 / found.size:6.2f}x"
            print(f"{scale:>6} {name:>9} {sizes}   {PAPER[scale][1]} / {PAPER[scale][0]}")


if __name__ == "__main__":
    main()
