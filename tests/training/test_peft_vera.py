"""VeRA adapters of PEFT on a drawn backbone: into a pack, and out of it again."""

import copy
import json

import pytest
import torch
from models import bits
from safetensors.torch import load_file, save_file
from training_models import BUILD, fit, logits

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError, UnsupportedError

peft = pytest.importorskip("peft")
PACK = "adapter.lotta.safetensors"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Specified to not load vera_A:UserWarning"),
    pytest.mark.filterwarnings("ignore:Specified to not save vera_A:UserWarning"),
]

CASES = {
    "llama": {"target_modules": ["q_proj", "up_proj", "down_proj"], "modules_to_save": ["lm_head"]},
    "llama, rank beyond the sides": {"target_modules": ["k_proj", "o_proj"], "r": 300},
    "gpt2": {"target_modules": ["c_attn", "c_proj"], "bias": "all"},
    "distilbert": {"target_modules": r".*\.[qv]_lin", "bias": "vera_only", "vera_dropout": 0.1},
}


def trained(name, *, ours=False, **options):
    """A PEFT model after some steps, on a backbone that lottapack drew."""
    base = lottapack.init_backbone_(BUILD[name](), seed=5)
    torch.manual_seed(0)
    model = peft.get_peft_model(base, peft.VeraConfig(**{"r": 6, "projection_prng_key": 3, **options}))
    return fit(lottapack.peft.draw_projections_(model) if ours else model, name)


def saved(folder, *arguments, **options):
    model = trained(*arguments, **options)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("ours", [True, False], ids=["our projections", "PEFT's projections"])
@pytest.mark.parametrize("case", CASES)
def test_they_come_in_and_go_out_with_the_same_bits(case, ours, run, tmp_path):
    name = case.split(",")[0]
    model = saved(tmp_path / "saved", name, ours=ours, **CASES[case])
    expected = logits(model, name)
    result = run("pack", tmp_path / "saved", "-o", tmp_path / PACK)
    assert (result.code, result.err) == (0, "")
    assert lottapack.verify(tmp_path / PACK).ok
    with lottapack.open_pack(tmp_path / PACK) as pack:
        factors = [tensor for tensor in pack.tensors if "lora" in tensor]
    assert len(factors) == (0 if ours else 2)  # each once, for all layers

    loaded = lottapack.load(tmp_path / PACK, check_fingerprints=True)
    merged = lottapack.load(tmp_path / PACK, merge=True)
    for rebuilt in (loaded, merged):
        assert torch.allclose(logits(rebuilt, name), expected, rtol=1e-4, atol=1e-5)
    theirs = copy.deepcopy(model).merge_and_unload().state_dict()
    state = merged.state_dict()
    assert all(torch.allclose(state[key], theirs[key], rtol=1e-4, atol=1e-5) for key in state)

    assert run("export", tmp_path / PACK, "-o", tmp_path / "out", "--format", "peft").code == 0
    base = lottapack.load(tmp_path / "out" / "base" / "model.lotta.safetensors", merge=True)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert bits(logits(again, name)) == bits(expected)
    before, after = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("saved", "out"))
    assert {key: bits(value) for key, value in after.items()} == {key: bits(value) for key, value in before.items()}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["save_projection"]) == ("VERA", True)
    lottapack.pack(tmp_path / "out", tmp_path / "again.lotta.safetensors")
    assert (tmp_path / "again.lotta.safetensors").read_bytes() == (tmp_path / PACK).read_bytes()


def test_projections_that_peft_did_not_save_are_drawn_as_peft_draws_them(tmp_path):
    model = saved(tmp_path / "saved", "llama", target_modules=["q_proj", "up_proj"], save_projection=False)
    assert "base_model.vera_A" not in load_file(tmp_path / "saved" / "adapter_model.safetensors")
    lottapack.pack(tmp_path / "saved", tmp_path / PACK)
    loaded = lottapack.load(tmp_path / PACK)
    projections = model.base_model.vera_A["default"]
    assert torch.equal(loaded.get_parameter("model.layers.0.self_attn.q_proj.lora_A"), projections)
    assert torch.allclose(logits(loaded, "llama"), logits(model, "llama"), rtol=1e-4, atol=1e-5)


def test_a_whole_state_dict_is_read_too(tmp_path):
    model = saved(tmp_path / "saved", "llama", target_modules=["q_proj"], ours=True)
    expected = lottapack.pack(tmp_path / "saved", tmp_path / PACK).path.read_bytes()
    state = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "saved" / "adapter_model.safetensors")
    assert lottapack.pack(tmp_path / "saved", tmp_path / "b.lotta.safetensors").path.read_bytes() == expected


def test_a_projection_that_is_too_small_is_refused(tmp_path):
    saved(tmp_path / "saved", "llama", target_modules=["q_proj"])
    path = tmp_path / "saved" / "adapter_model.safetensors"
    state = load_file(path)
    save_file(state | {"base_model.vera_B": state["base_model.vera_B"][:-1].clone()}, path)
    with pytest.raises(CheckpointError, match=r"base_model\.vera_B is of shape .* needs"):
        lottapack.pack(tmp_path / "saved", tmp_path / PACK)
    del state["base_model.vera_A"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"base_model\.vera_A is missing"):
        lottapack.pack(tmp_path / "saved", tmp_path / PACK)


def test_what_cannot_have_our_projections_is_refused():
    base = BUILD["llama"]()
    with pytest.raises(ScaffoldError, match="no VeRA projections"):
        lottapack.peft.draw_projections_(base)
    model = peft.get_peft_model(base, peft.VeraConfig(r=4, target_modules=["q_proj"]))
    with pytest.raises(ScaffoldError, match="the base of the adapter has no seed"):
        lottapack.peft.draw_projections_(model)
    with pytest.raises(ScaffoldError, match="save_projection=False"):
        trained("llama", ours=True, target_modules=["q_proj"], save_projection=False)


def test_packs_that_peft_cannot_express_are_refused(tmp_path):
    ways = {
        "rank=2, beta='output', targets=['q_proj']": "beta by input or output",
        "rank=0, beta='input', targets=['q_proj']": "beta by input or output",
        "vera=True, beta=1.0, rank={'up_proj': 3, '*': 2}, targets=['q_proj', 'up_proj']": "several ranks of VeRA",
        "vera=True, beta=1.0, alpha=4.0, rank=2, targets=['q_proj']": "a scaling of VeRA other than 1",
        "vera=True, beta=1.0, rank=2, targets=['embed_tokens', 'q_proj']": "other kinds than Linear",
    }
    for number, (options, why) in enumerate(ways.items()):
        model = lottapack.scaffold(BUILD["llama"](), seed=1, train=[], **eval(f"dict({options})"))
        path = lottapack.pack(model, tmp_path / f"{number}.lotta.safetensors").path
        with pytest.raises(UnsupportedError, match=why):
            lottapack.export(path, tmp_path / f"out{number}", format="peft")


def test_our_own_vera_goes_out_to_peft(tmp_path):
    model = lottapack.scaffold(
        BUILD["llama"](), seed=1, vera=True, rank=5, beta=1.0, targets=["q_proj", "down_proj"], train=[]
    )
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lambda" in name:
                value += torch.linspace(-0.5, 0.5, value.numel())
    path = lottapack.pack(model, tmp_path / PACK).path
    lottapack.export(path, tmp_path / "out", format="peft")
    base = lottapack.load(tmp_path / "out" / "base" / "model.lotta.safetensors", merge=True)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert torch.allclose(logits(theirs, "llama"), logits(model.eval(), "llama"), rtol=1e-4, atol=1e-5)
    assert lottapack.pack(tmp_path / "out", tmp_path / "again.lotta.safetensors").path.read_bytes() == path.read_bytes()
