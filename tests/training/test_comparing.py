"""compare(): the outputs of a model and of its pack, and what makes them differ."""

import pytest
import torch
from models import PLAIN, input_for, tied_llama, train, trained
from torch import nn

import lottapack
from lottapack import CheckpointError, IntegrityError

PACK = "pack.lotta.safetensors"


@pytest.mark.parametrize("name", [*PLAIN, "llama", "distilbert"])
def test_the_same_bits_unmerged_and_nearly_merged(name, tmp_path):
    model = trained(name).train()
    lottapack.pack(model, tmp_path / PACK)
    found = lottapack.compare(model, tmp_path / PACK, input_for(name))
    assert found.unmerged == 0 and found.exact and found.largest > 0
    assert found.merged <= 1e-4 * found.largest
    assert model.training


def test_inputs_by_name_and_narrow_models(tmp_path):
    model = train(lottapack.scaffold(tied_llama(torch.bfloat16), seed=1, rank=2))
    lottapack.pack(model, tmp_path / PACK)
    assert lottapack.compare(model, tmp_path / PACK, {"input_ids": input_for("llama")}).unmerged == 0


def test_another_state_and_a_hook_are_found(tmp_path):
    model = trained("mlp")
    lottapack.pack(model, tmp_path / PACK)
    given = input_for("mlp")
    handle = model[1].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(IntegrityError, match="unmerged: differ by up to") as caught:
        lottapack.compare(model, tmp_path / PACK, given)
    assert "a hook" in caught.value.hint
    handle.remove()
    assert lottapack.compare(model, tmp_path / PACK, [given]).unmerged == 0
    with torch.no_grad():
        model[0].beta += 1e-3
    with pytest.raises(IntegrityError):
        lottapack.compare(model, tmp_path / PACK, given)


def test_a_coding_is_measured_and_refused_for_nothing(tmp_path):
    model = trained("mlp")
    lottapack.pack(model, tmp_path / PACK, stored_dtype="bfloat16")
    found = lottapack.compare(model, tmp_path / PACK, input_for("mlp"))
    assert not found.exact and 0 < found.unmerged < 0.1 * found.largest


class Noise(nn.Module):
    """Another answer each time."""

    def forward(self, given):
        return given + torch.rand(1)


def test_what_cannot_be_compared(tmp_path):
    model = trained("mlp")
    lottapack.pack(model, tmp_path / PACK)
    model.append(Noise())
    with pytest.raises(CheckpointError, match="two answers"):
        lottapack.compare(model, tmp_path / PACK, input_for("mlp"))
