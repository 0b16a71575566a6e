"""lottapack's merge against the known answers."""

import numpy as np
import pytest
import torch
from spec_files import answers

from lottapack.format.names import ADAPTER_PARTS
from lottapack.format.recipe import scaling_factor
from lottapack.weights.merge import merged

MERGE = {case["name"]: case for case in answers("merge")["cases"]}


def tensor(digits, dtype, *shape):
    bits = np.array([int(text, 16) for text in digits], np.uint32 if dtype == "float32" else np.uint16)
    return torch.from_numpy(bits.view(f"i{bits.itemsize}")).view(getattr(torch, dtype)).reshape(shape)


@pytest.mark.parametrize("name", MERGE)
def test_merge(name):
    case = MERGE[name]
    factors, rank, batch = case["adapter_dtype"], case["rank"], case["shape"][: case["batch_dims"]]
    shared = case["shared_factor"]
    batch_a, batch_b = ([] if shared == factor else batch for factor in ("lora_A", "lora_B"))
    shapes = dict.fromkeys(ADAPTER_PARTS, (*batch, -1)) | {"beta": (1,)}
    shapes |= {"lora_A": (*batch_a, rank, -1), "lora_B": (*batch_b, -1, rank)}
    result = merged(
        tensor(case["weight"], case["dtype"], *case["shape"]),
        *(None if case[part] is None else tensor(case[part], factors, *shape) for part, shape in shapes.items()),
        scaling=scaling_factor(case["alpha"], case["rank"], case["scaling"]),
        fan_in_fan_out=case["fan_in_fan_out"],
    )
    assert list(result.shape) == case["shape"]
    assert result.dtype == getattr(torch, case["dtype"])
    whole = torch.int32 if case["dtype"] == "float32" else torch.int16
    assert torch.equal(result.view(whole), tensor(case["merged"], case["dtype"], *case["shape"]).view(whole))
