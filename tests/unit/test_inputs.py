"""Inputs of a model, as callers and files give them."""

import numpy as np
import pytest
import torch

from lottapack.errors import CheckpointError
from lottapack.inputs import arguments


@pytest.mark.parametrize(
    "given", [np.arange(6.0)[::-1], np.broadcast_to(np.arange(3.0), (2, 3))], ids=["back", "fixed"]
)
def test_reversed_and_read_only_arrays_become_tensors(given):
    (tensor,), named = arguments(given)
    assert named == {}
    assert torch.equal(tensor, torch.tensor(given.tolist(), dtype=torch.float64))


@pytest.mark.parametrize("given", [np.array(["a"]), np.arange(3).astype(">i4")], ids=["text", "other bytes"])
def test_arrays_that_no_tensor_holds_are_refused(given):
    for inputs in (given, [given], {"x": given}):
        with pytest.raises(CheckpointError, match="an input cannot be a tensor"):
            arguments(inputs)
