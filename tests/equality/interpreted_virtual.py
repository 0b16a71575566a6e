"""Products by Triton kernels, for the process of ``interpreted.py``."""

import numpy as np
import torch


def multiplied(
    x: np.ndarray, dtype: str, seed: int, name: str, scale: float, shape: tuple[int, int], transposed: bool
) -> np.ndarray:
    """Compute ``x @ W.T`` or ``x @ W`` for inputs of a dtype; return float32."""
    from lottapack import rng
    from lottapack.products import gpu

    given = torch.from_numpy(x).to(getattr(torch, dtype))
    source = rng.Source(seed, name, rng.builtin("sign1"), scale, dtype)
    assert gpu.fits(given, shape[1], transposed)
    found = gpu.product(given, source, scale, shape, transposed)
    assert found.dtype == given.dtype
    return found.float().numpy()
