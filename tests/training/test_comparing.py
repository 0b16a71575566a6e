"""compare(): outputs of a model and its pack, and causes of differences."""

import json

import numpy as np
import pytest
import torch
from models import PLAIN, input_for, tied_llama, train, trained
from safetensors.torch import save_file
from torch import nn

import lottapack
from lottapack import inputs
from lottapack.comparing import trained as build_trained
from lottapack.errors import BackboneChangedWarning, CheckpointError, IntegrityError
from lottapack_cli.app import main

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


class Wrapped(nn.Module):
    """A class of one's own around a model of transformers."""

    def __init__(self):
        super().__init__()
        self.inner = tied_llama()

    def forward(self, ids):
        return self.inner(input_ids=ids).logits


def mixture():
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return MixtralForCausalLM(MixtralConfig(vocab_size=99, intermediate_size=96, num_local_experts=4, **sizes))


@pytest.mark.parametrize("kind", ["llama", "mixtral", "own"])
def test_how_a_model_is_run_is_no_damage(kind, tmp_path):
    """Other kernels for attention and experts round otherwise: the rebuilt model gets those of the trained one."""
    makes = {"llama": tied_llama, "mixtral": mixture, "own": lambda: lottapack.build("python", f"{__name__}:Wrapped")}
    model = train(lottapack.scaffold(makes[kind](), seed=1, rank=2)).eval()
    lottapack.pack(model, tmp_path / PACK)
    ids = input_for("llama")
    usual = model(ids)
    within = getattr(model, "inner", model)
    within.set_attn_implementation("eager")
    if kind == "mixtral":
        within.set_experts_implementation("eager")
    assert not torch.equal(getattr(usual, "logits", usual), getattr(model(ids), "logits", model(ids)))
    assert lottapack.compare(model, tmp_path / PACK, ids, allow=__name__).unmerged == 0
    with torch.no_grad():
        within.get_input_embeddings().weight[ids[0, 0]] += 1e-6
    with pytest.raises(IntegrityError, match="unmerged: differ by up to"):
        lottapack.compare(model, tmp_path / PACK, ids, allow=__name__)


@pytest.mark.parametrize(("kind", "layout"), [(nn.Conv2d, "channels_last"), (nn.Conv3d, "channels_last_3d")])
def test_weights_that_end_in_channels_are_no_damage(kind, layout, tmp_path):
    """Their convolutions have kernels of their own, which round otherwise."""
    model = nn.Sequential(kind(3, 16, 3), nn.ReLU(), kind(16, 32, 3), nn.Flatten(2), nn.AdaptiveAvgPool1d(1))
    model = lottapack.scaffold(model, seed=1, rank=2).to(memory_format=getattr(torch, layout))
    given = torch.randn(4, 3, *((32, 32) if kind is nn.Conv2d else (8, 8, 8)))
    train(model)
    lottapack.pack(model, tmp_path / "a.lotta.safetensors")
    assert lottapack.compare(model, tmp_path / "a.lotta.safetensors", given).unmerged == 0


def test_a_compiled_model_is_compared_as_it_is_written(tmp_path):
    """Compiled code rounds otherwise, so neither model runs any."""
    model = trained("mlp")
    lottapack.pack(model, tmp_path / PACK)

    def doubled(graph, inputs):
        return lambda *given: tuple(2 * one for one in graph(*given))

    given = input_for("mlp")
    compiled = torch.compile(model, backend=doubled)
    assert torch.equal(compiled(given), 2 * model(given))
    assert lottapack.compare(compiled, tmp_path / PACK, given).unmerged == 0


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
    lottapack.pack(model, tmp_path / PACK, compression=lottapack.Compression(dtype="bfloat16"))
    found = lottapack.compare(model, tmp_path / PACK, input_for("mlp"))
    assert not found.exact and 0 < found.unmerged < 0.1 * found.largest
    model = train(lottapack.scaffold(nn.Sequential(nn.Linear(200, 300), nn.Linear(300, 4)), seed=1, rank=16))
    lottapack.pack(model, tmp_path / PACK, compression=lottapack.Compression(coding={"adapters": "trellis8@0.02"}))
    found = lottapack.compare(model, tmp_path / PACK, torch.ones(3, 200))
    assert not found.exact and 0 < found.unmerged < 0.2 * found.largest


class Noise(nn.Module):
    """Returns another answer each time."""

    def forward(self, given):
        return given + torch.rand(1)


def test_outputs_of_other_dtypes_are_compared(tmp_path, monkeypatch):
    """Also in their imaginary part alone, and truth values."""
    inner = nn.Sequential.forward
    monkeypatch.setattr(
        nn.Sequential,
        "forward",
        lambda self, x: (inner(self, x) > 0, torch.complex(torch.zeros_like(inner(self, x)), inner(self, x)).conj()),
    )
    model = trained("mlp")
    lottapack.pack(model, tmp_path / PACK)
    given = input_for("mlp")
    assert lottapack.compare(model, tmp_path / PACK, given).unmerged == 0
    assert len(lottapack.run(tmp_path / PACK, inputs=given[:1]).values["output.1"][0][0]) == 2
    with torch.no_grad():
        model[0].beta += 1e-3
    with pytest.raises(IntegrityError, match="unmerged: differ by up to"):
        lottapack.compare(model, tmp_path / PACK, given)


def test_what_cannot_be_compared(tmp_path):
    model = trained("mlp")
    lottapack.pack(model, tmp_path / PACK)
    model.append(Noise())
    with pytest.raises(CheckpointError, match="different outputs"):
        lottapack.compare(model, tmp_path / PACK, input_for("mlp"))


def test_a_backbone_in_a_dtype_of_its_own_is_named(tmp_path):
    """FSDP with a buffer_dtype casts the backbone alone, which only the wrapper can run."""
    model = trained("cnn")
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(torch.bfloat16)

    def check(path):
        return lottapack.compare(model, path, input_for("cnn"))

    with pytest.raises(CheckpointError, match="with weights in bfloat16 and float32: ") as caught:
        lottapack.pack(model, tmp_path / PACK, check=check)
    assert "buffer_dtype" in caught.value.hint
    with pytest.warns(BackboneChangedWarning, match="the pack stores them"):  # merged with their adapters
        result = lottapack.pack(model.to(torch.float32), tmp_path / PACK, check=check)
    assert 0 < result.checked.unmerged == result.checked.merged
    with torch.no_grad():
        model[0].bias += 1e-2
    with pytest.raises(IntegrityError, match="unmerged: differ by up to"):
        check(tmp_path / PACK)


def test_pack_compares_before_the_pack_takes_its_place(tmp_path):
    model, given = trained("mlp"), input_for("mlp")
    path = tmp_path / PACK
    result = lottapack.pack(model, path, check=lambda new: lottapack.compare(model, new, given))
    assert result.checked == lottapack.compare(model, path, given)
    before = path.read_bytes()
    with torch.no_grad():
        model[0].lora_B.add_(1.0)
    model[1].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(IntegrityError, match="unmerged: differ by up to"):
        lottapack.pack(model, path, ignore="1", check=lambda new: lottapack.compare(model, new, given))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [PACK]


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "npy", "npz"])
def test_the_command_compares_a_checkpoint_with_its_pack(suffix, tmp_path, capsys):
    model, given = trained("mlp"), input_for("mlp")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    inputs = tmp_path / f"inputs.{suffix}"
    if suffix == "pt":
        torch.save(given, inputs)
    elif suffix == "safetensors":
        save_file({"input": given}, inputs)
    elif suffix == "npy":
        np.save(inputs, given.numpy())
    else:
        np.savez(inputs, input=given.numpy())
    assert main(["pack", str(tmp_path / "state.pt"), "--check", str(inputs)]) == 0
    assert "outputs are the same bits" in capsys.readouterr().out
    assert main(["pack", str(tmp_path / "state.pt"), "--check", str(inputs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"]["unmerged"] == 0


def test_a_checkpoint_is_built_without_a_pack(tmp_path):
    model = train(lottapack.scaffold(tied_llama(torch.bfloat16), seed=1, rank=2)).eval()
    model.save_pretrained(tmp_path / "folder")
    again = build_trained(tmp_path / "folder")
    ids = input_for("llama")
    assert torch.equal(again(ids).logits.view(torch.int16), model(ids).logits.view(torch.int16))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("inputs.pt", b"no file of torch", "cannot read tensors"),
        ("inputs.npz", b"no array", "cannot read tensors"),
        ("inputs.txt", b"1 2 3", "unknown file type"),
        ("inputs.npy", None, "cannot read tensors"),
    ],
)
def test_inputs_that_cannot_be_read(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        inputs.read(tmp_path / name)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "inputs.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="cannot read tensors"):
        inputs.read(tmp_path / "inputs.npy")
