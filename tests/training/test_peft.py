"""PEFT adapters on a drawn backbone go into a pack and out again with the same bits."""

import copy
import json
import shutil
import warnings

import pytest
import torch
from models import all_bits, bits
from safetensors.torch import load_file, save_file
from torch import nn
from training_models import BUILD, arguments, dataset, fit, logits

import lottapack
from lottapack.errors import BackboneChangedWarning, CheckpointError, LeftOutWarning

peft = pytest.importorskip("peft")
PACK = "adapter.lotta.safetensors"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

CASES = {
    "llama": {
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"up_proj": 3},
        "alpha_pattern": {r"layers\.0.*q_proj": 5},
        "modules_to_save": ["lm_head"],
        "use_dora": True,
    },
    "gpt2": {"target_modules": ["c_attn"], "bias": "all", "use_rslora": True},
    "vit": {"target_modules": ["projection", "q_proj"], "modules_to_save": ["classifier"], "bias": "lora_only"},
    "distilbert": {"target_modules": r".*\.[qv]_lin", "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"},
    "vit, dora": {"target_modules": ["projection", "fc1"], "use_dora": True},
    "gpt2, embedding": {"target_modules": ["wpe", "c_proj"], "use_dora": True, "layers_to_transform": None},
    "llama, some layers": {"target_modules": ["v_proj"], "layers_to_transform": [1], "exclude_modules": ["q_proj"]},
    "distilbert, all linear": {"target_modules": "all-linear", "init_lora_weights": "gaussian"},
}


def drawn(name):
    return lottapack.init_backbone_(BUILD[name](), seed=5)


def trained(name, base=None, **options):
    """Train a PEFT model for some steps on a backbone drawn by lottapack."""
    config = peft.LoraConfig(**{"r": 2, "lora_alpha": 6, "lora_dropout": 0.1, **options})
    torch.manual_seed(0)
    return fit(peft.get_peft_model(drawn(name) if base is None else base, config), name)


@pytest.mark.parametrize("case", CASES)
def test_adapters_come_in_and_go_out_with_the_same_bits(case, run, tmp_path):
    name = case.split(",")[0]
    model = trained(name, **CASES[case])
    expected = logits(model, name)
    model.save_pretrained(tmp_path / "saved")
    result = run("pack", tmp_path / "saved", "-o", tmp_path / PACK)
    assert (result.code, result.err) == (0, "")
    assert lottapack.verify(tmp_path / PACK).ok

    loaded = lottapack.load(tmp_path / PACK, check_fingerprints=True)
    merged = lottapack.load(tmp_path / PACK, merge=True)
    for rebuilt in (loaded, merged):
        assert torch.allclose(logits(rebuilt, name), expected, rtol=1e-4, atol=1e-5)
    theirs = copy.deepcopy(model).merge_and_unload().state_dict()
    ours = merged.state_dict()
    assert all(torch.allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-5) for key in ours)

    assert run("export", tmp_path / PACK, "-o", tmp_path / "out", "--format", "peft").code == 0
    base = lottapack.load(tmp_path / "out" / "base" / "model.lotta.safetensors", merge=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing.*")
        again = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert bits(logits(again, name)) == bits(expected)
    for folder in ("out", "again"):
        if folder == "again":
            again.save_pretrained(tmp_path / folder)
        assert run("pack", tmp_path / folder, "-o", tmp_path / "second").code == 0
        assert (tmp_path / "second").read_bytes() == (tmp_path / PACK).read_bytes()


def test_a_pack_of_an_adapter_is_small_and_says_what_it_is(run, tmp_path):
    model = trained("llama", **CASES["llama"])
    model.save_pretrained(tmp_path / "saved")
    run("pack", tmp_path / "saved", "-o", tmp_path / PACK)
    found = {entry.name: entry for entry in lottapack.inspect(tmp_path / PACK).parameters}
    query, up = (found[f"model.layers.0.{part}.weight"] for part in ("self_attn.q_proj", "mlp.up_proj"))
    assert (query.role, query.rank, query.alpha, query.beta_learned, query.magnitude) == (
        "adapted",
        2,
        5.0,
        False,
        True,
    )
    assert (up.role, up.rank, up.alpha) == ("adapted", 3, 6.0)
    assert (found["lm_head.weight"].role, found["lm_head.weight"].trained) == ("stored", True)
    assert found["model.embed_tokens.weight"].role == "seeded"
    assert found["model.norm.weight"].role == "constant"
    assert "magnitude" in run("inspect", tmp_path / PACK).out


def test_the_base_opens_with_transformers_and_peft_alone(run, tmp_path):
    import transformers

    model = trained("llama", **CASES["llama"])
    model.save_pretrained(tmp_path / "saved")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved" / "base")
    on_it = peft.PeftModel.from_pretrained(base, tmp_path / "saved")
    assert bits(logits(on_it, "llama")) == bits(logits(model, "llama"))
    on_it.save_pretrained(tmp_path / "third")  # the base is known here as well
    for folder in ("saved", "third"):
        run("pack", tmp_path / folder, "-o", tmp_path / folder / PACK)
    assert (tmp_path / "saved" / PACK).read_bytes() == (tmp_path / "third" / PACK).read_bytes()
    run("export", tmp_path / "saved" / PACK, "-o", tmp_path / "out", "--format", "peft")
    whole = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    assert bits(logits(whole, "llama")) == bits(logits(model, "llama"))
    drawn_again = peft.PeftModel.from_pretrained(drawn("llama"), tmp_path / "out")
    assert bits(logits(drawn_again, "llama")) == bits(logits(model, "llama"))


def test_the_trainer_saves_adapters_that_pack(run, tmp_path):
    from transformers import Trainer

    model = peft.get_peft_model(drawn("gpt2"), peft.LoraConfig(r=2, target_modules=["c_attn"]))
    Trainer(model=model, args=arguments(tmp_path / "run"), train_dataset=dataset("gpt2")).train()
    checkpoint = tmp_path / "run" / "checkpoint-4"
    assert run("pack", checkpoint).code == 0
    loaded = lottapack.load(tmp_path / "run" / "checkpoint-4.lotta.safetensors")
    assert torch.allclose(logits(loaded, "gpt2"), logits(model, "gpt2"), rtol=1e-4, atol=1e-5)


def test_a_model_of_torch_nn(run, tmp_path):
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Conv1d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(16, 3))
    base = lottapack.init_backbone_(plain, seed=9)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0", "2"], modules_to_save=["4"]))
    with torch.no_grad():
        for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.copy_(lottapack.draw(str(number), parameter.shape, seed=1, scale=0.3))
    model.save_pretrained(tmp_path / "saved")
    given = torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(1))
    expected = model.eval()(given).detach()
    assert run("pack", tmp_path / "saved", "-o", tmp_path / PACK).code == 0
    assert torch.allclose(lottapack.load(tmp_path / PACK)(given), expected, rtol=1e-4, atol=1e-5)
    assert run("export", tmp_path / PACK, "-o", tmp_path / "out", "--format", "peft").code == 0
    rebuilt = lottapack.load(tmp_path / "out" / "base" / "model.lotta.safetensors", merge=True)
    again = peft.PeftModel.from_pretrained(rebuilt, tmp_path / "out").eval()
    assert bits(again(given).detach()) == bits(expected)


def test_pickled_adapters_and_adapters_of_other_names(run, tmp_path):
    model = trained("llama", target_modules=["q_proj"])
    model.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    model.save_pretrained(tmp_path / "saved")
    for folder in ("pickled", "saved"):
        assert run("pack", tmp_path / folder, "-o", tmp_path / f"{folder}.p").code == 0
    assert (tmp_path / "pickled.p").read_bytes() == (tmp_path / "saved.p").read_bytes()
    model.add_adapter("other", peft.LoraConfig(r=1, target_modules=["k_proj"]))
    model.save_pretrained(tmp_path / "both")
    assert run("pack", tmp_path / "both" / "other", "-o", tmp_path / "other.p").code == 0
    assert run("inspect", tmp_path / "other.p", "--json").code == 0


def test_init_backbone_draws_in_place_and_wraps_nothing(tmp_path):
    plain = BUILD["gpt2"]()
    kinds = {name: type(module) for name, module in plain.named_modules()}
    state = plain.state_dict().keys()
    model = lottapack.init_backbone_(plain, seed=5)
    assert model is plain
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert model.state_dict().keys() - state == {"lottapack_recipe"}
    assert all(parameter.requires_grad for parameter in model.parameters())
    name = "transformer.h.0.attn.c_attn.weight"
    expected = lottapack.draw(name, (16, 48), seed=5, scale=0.25)
    assert bits(model.get_parameter(name)) == bits(expected)
    assert not model.transformer.h[0].attn.c_attn.bias.any()
    assert model.lm_head.weight is model.transformer.wte.weight
    same = lottapack.init_backbone_(BUILD["gpt2"](), seed=5)
    assert all_bits(same) == all_bits(model)
    half = lottapack.init_backbone_(BUILD["gpt2"]().bfloat16(), seed=5, distribution="sign1", scale=0.125)
    assert half.transformer.wte.weight.abs().unique().tolist() == [0.125]
    lottapack.pack(model, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size < 12_000
    assert all_bits(lottapack.load(tmp_path / "a", merge=True)).items() <= all_bits(model).items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1, "scale": 0.0}, "scale=0.0"),
        ({"seed": 1, "scale": 1e-44}, "not a normal binary32 number"),
    ],
)
def test_wrong_arguments_of_init_backbone(arguments, message):
    with pytest.raises(lottapack.errors.ScaffoldError, match=message):
        lottapack.init_backbone_(BUILD["gpt2"](), **arguments)
    with pytest.raises(lottapack.errors.ScaffoldError, match="already has a lottapack backbone"):
        lottapack.init_backbone_(drawn("gpt2"), seed=1)
    with pytest.raises(lottapack.errors.ScaffoldError, match="on the meta device"):
        lottapack.init_backbone_(nn.Sequential(nn.Linear(2, 2, device="meta")), seed=1)


def test_a_partly_trained_backbone_packs_from_its_own_checkpoint(run, tmp_path):
    """Without PEFT: some layers are trained in full, others stay as drawn."""
    model = drawn("llama")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.1" in name or "norm" in name)
    fit(model, "llama")
    model.save_pretrained(tmp_path / "saved")
    result = run("pack", tmp_path / "saved", "-o", tmp_path / PACK)
    assert result.code == 0
    assert "7 frozen weights differ from what seed 5 generates" in result.err
    expected = {name: bits(value) for name, value in model.named_parameters()}
    loaded = lottapack.load(tmp_path / PACK, merge=True)
    assert {name: bits(value) for name, value in loaded.named_parameters()} == expected
    roles = {entry.name: entry.role for entry in lottapack.inspect(tmp_path / PACK).parameters}
    assert roles["model.layers.0.mlp.up_proj.weight"] == "seeded"
    assert roles["model.layers.1.mlp.up_proj.weight"] == "stored"


# Refused, without writing anything.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peft") / "saved"
    trained("llama", target_modules=["q_proj"], modules_to_save=["lm_head"]).save_pretrained(folder)
    return folder


def copied(saved, target, config=None, tensors=None):
    """Copy the folder with other configuration values and changed tensors."""
    shutil.copytree(saved, target)
    if config:
        path = target / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    if tensors:
        path = target / "adapter_model.safetensors"
        save_file(tensors(load_file(path)), path)
    return target


def refused(run, folder, *words, options=()):
    out = folder.parent / "refused.p"
    result = run("pack", folder, "-o", out, *options)
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert [word for word in words if word not in result.err] == []
    assert not out.exists()


CANNOT_BE_CARRIED = [
    ({"peft_type": "IA3"}, "IA3"),
    ({"peft_type": "VERA"}, "missing or extra parts"),
    ({"peft_type": "LOHA"}, "LOHA"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
    ({"init_lora_weights": "olora"}, "olora"),
    ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "loftq"),
    ({"lora_bias": True}, "lora_bias"),
    ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
    ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
    ({"target_parameters": ["a.weight"]}, "target_parameters"),
    ({"use_qalora": True}, "use_qalora"),
    ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens"),
    ({"megatron_config": {"a": 1}}, "megatron_config"),
    ({"arrow_config": {"top_k": 1}}, "arrow_config"),
    ({"an_option_of_a_later_version": 3}, "an_option_of_a_later_version"),
    ({"lora_alpha": 0}, "lora_alpha=0"),
    ({"lora_alpha": float("inf")}, "lora_alpha=inf"),
    ({"r": 17}, "r=17"),
]


@pytest.mark.parametrize(
    ("config", "word"), CANNOT_BE_CARRIED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_a_pack_cannot_carry_is_refused_by_name(config, word, run, saved, tmp_path):
    refused(run, copied(saved, tmp_path / "a", config), word)


def without(*ends):
    return lambda tensors: {key: value for key, value in tensors.items() if not key.endswith(ends)}


LAYER = "base_model.model.model.layers.0.self_attn.q_proj."
A, B = f"{LAYER}lora_A.weight", f"{LAYER}lora_B.weight"


def adding(**tensors):
    return lambda held: {**held, **tensors}


BROKEN = {
    "a rank of other tensors": ({"r": 3}, None, ["another base", "lora_A", "(2, 16)"]),
    "half an adapter": (None, without(B), ["q_proj", "lora_B"]),
    "an adapter missing": (None, without(A, B), ["lacks the adapter of model.layers.0.self_attn.q_proj, which it"]),
    "no adapters": ({"target_modules": []}, without("lora_A.weight", "lora_B.weight"), ["lacks the adapter of any"]),
    "dora without magnitudes": ({"use_dora": True}, None, ["magnitude"]),
    "magnitudes without dora": (
        None,
        adding(**{f"{LAYER}lora_magnitude_vector": torch.ones(16)}),
        ["missing or extra parts: magnitude"],
    ),
    "another model's": (
        None,
        adding(**{"base_model.model.other.lora_A.weight": torch.ones(2, 2)}),
        ["another base", "other.lora_A.weight"],
    ),
    "another width": (None, adding(**{A: torch.ones(2, 8)}), ["another base", "(2, 8)"]),
    "another head": (
        None,
        adding(**{"base_model.model.lm_head.weight": torch.ones(9, 16)}),
        ["(9, 16)", "(40, 16)"],
    ),
    "no number": ({"r": "many"}, None, ["has an invalid value"]),
    "a broken pattern": ({"rank_pattern": {"(": 2}}, None, ["has an invalid value"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_adapters_are_refused(case, run, saved, tmp_path):
    config, tensors, words = BROKEN[case]
    refused(run, copied(saved, tmp_path / "a", config, tensors), *words)


def test_missing_files_are_named(run, saved, tmp_path):
    for lost, words in [
        ("adapter_config.json", ["without its adapter_config.json"]),
        ("adapter_model.safetensors", ["does not contain adapter_model.safetensors"]),
        ("base/model.lotta.safetensors", ["cannot pack "]),
    ]:
        folder = copied(saved, tmp_path / lost.split("/")[0] / "a")
        (folder / lost).unlink()
        refused(run, folder, *words)
    folder = copied(saved, tmp_path / "nobase")
    shutil.rmtree(folder / "base")
    refused(run, folder, "cannot pack ", "--base", "init_backbone_()")
    (folder / "adapter_config.json").write_text("{")
    refused(run, folder, "cannot read")
    (folder / "adapter_config.json").write_text("[]")
    refused(run, folder, "is not a JSON object")
    (folder / "adapter_config.json").write_text("[" * 100_000)
    refused(run, folder, "cannot read")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a" * 5000})
    )
    refused(run, folder, "does not contain a pack")


def test_the_base_can_be_named_and_must_be_the_right_one(run, saved, tmp_path):
    folder = copied(saved, tmp_path / "a")
    own = tmp_path / "own.lotta.safetensors"
    lottapack.pack(drawn("llama"), own)
    run("pack", saved, "-o", tmp_path / "expected")
    for base in (own, folder / "base"):
        assert run("pack", folder, "-o", tmp_path / "named", "--base", base).code == 0
        assert (tmp_path / "named").read_bytes() == (tmp_path / "expected").read_bytes()
    lottapack.pack(lottapack.init_backbone_(BUILD["llama"](), seed=6), tmp_path / "other")
    refused(run, folder, "another base", "fingerprints differ for", options=("--base", tmp_path / "other"))
    shutil.rmtree(folder / "base")
    lottapack.pack(drawn("vit"), tmp_path / "vit")
    refused(run, folder, "another base", "do not fit that base", options=("--base", tmp_path / "vit"))
    lottapack.pack(lottapack.init_backbone_(BUILD["llama"](hidden_size=32), seed=5), tmp_path / "wide")
    refused(run, folder, "another base", options=("--base", tmp_path / "wide"))
    refused(run, folder, "cannot be a base: it has adapters itself", options=("--base", tmp_path / "expected"))
    refused(run, folder, "No such file", options=("--base", tmp_path / "none"))
    config = json.loads((folder / "adapter_config.json").read_text())
    places = tmp_path / "drawn"
    lottapack.export(own, places, format="transformers-pack")
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(places)}))
    assert run("pack", folder, "-o", tmp_path / "by name").code == 0
    assert (tmp_path / "by name").read_bytes() == (tmp_path / "expected").read_bytes()


class Code:
    def __reduce__(self):
        return print, ("an adapter ran code",)


def test_pickles_run_no_code(run, saved, tmp_path):
    folder = copied(saved, tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"x": Code()}, folder / "adapter_model.bin")
    refused(run, folder, "as tensors")


def test_tied_weights_and_groups_are_refused(run, tmp_path):
    model = trained("gpt2", target_modules=["wte"])
    model.save_pretrained(tmp_path / "tied")
    refused(run, tmp_path / "tied", "transformer.wte.weight is tied")
    base = lottapack.init_backbone_(nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2)), seed=1)
    grouped = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"]))
    grouped.save_pretrained(tmp_path / "grouped")
    refused(run, tmp_path / "grouped", "grouped convolution")


def test_states_of_a_peft_model_say_what_to_do(run, tmp_path):
    torch.save(trained("llama", target_modules=["q_proj"]).state_dict(), tmp_path / "state.pt")
    refused(run, tmp_path / "state.pt", "peft_model.save_pretrained(FOLDER)")


def exported(run, pack, folder, *words):
    result = run("export", pack, "-o", folder, "--format", "peft")
    assert (result.code, result.out) == (2, "")
    assert [word for word in words if word not in result.err] == []
    assert not folder.exists()


def test_what_peft_cannot_carry_is_not_exported(run, tmp_path):
    cases = {
        "beta": (lambda: lottapack.scaffold(BUILD["llama"](), seed=1, rank=2), "PEFT does not support beta"),
        "none": (lambda: drawn("llama"), "does not have an adapter"),
        "tied": (lambda: lottapack.scaffold(BUILD["gpt2"](), seed=1, rank=2, beta=1.0), "tied to another weight"),
        "alone": (lambda: lottapack.scaffold(BUILD["vit"](), seed=1, rank=2, beta=1.0), "whole modules or biases"),
    }
    for case, (build, words) in cases.items():
        lottapack.pack(build(), tmp_path / case)
        exported(run, tmp_path / case, tmp_path / "out", words)
    names = nn.Sequential(*(nn.Linear(4, 4) for _ in range(11)))
    lottapack.pack(lottapack.scaffold(names, seed=1, rank=1, beta=1.0, train=["0"], targets=["5"]), tmp_path / "ends")
    exported(run, tmp_path / "ends", tmp_path / "out", "PEFT would train 10 with 0")


def test_a_scaffolded_model_with_beta_fixed_goes_out(run, tmp_path):
    model = lottapack.scaffold(
        BUILD["llama"](), seed=1, rank={"q_proj": 3, "*": 2}, beta=1.0, targets=["q_proj", "down_proj"], train=["heads"]
    )
    fit(model, "llama")
    lottapack.pack(model, tmp_path / PACK)
    assert run("export", tmp_path / PACK, "-o", tmp_path / "out", "--format", "peft").code == 0
    base = lottapack.load(tmp_path / "out" / "base" / "model.lotta.safetensors", merge=True)
    there = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert torch.allclose(logits(there, "llama"), logits(model, "llama"), rtol=1e-4, atol=1e-5)
    run("pack", tmp_path / "out", "-o", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / PACK).read_bytes()


def test_a_model_with_scaffolds_goes_out_on_each(run, tmp_path):
    """The base beside the adapter has the seed of the requested scaffold only."""
    model = fit(lottapack.scaffold(BUILD["llama"](), seed=3, beta=1.0, scaffolds={"task-b": 4}), "llama")
    lottapack.pack(model, tmp_path / PACK)
    lottapack.export(tmp_path / PACK, tmp_path / "b", format="peft", scaffold="task-b")
    base = lottapack.inspect(tmp_path / "b" / "base" / "model.lotta.safetensors")
    assert (base.seed, base.scaffolds) == (f"{4:016x}", {})
    lottapack.pack(tmp_path / "b", tmp_path / "again")
    assert all_bits(lottapack.load(tmp_path / "again", merge=True)) == all_bits(
        lottapack.load(tmp_path / PACK, merge=True, scaffold="task-b")
    )
    lottapack.export(tmp_path / PACK, tmp_path / "all", format="peft")
    lottapack.pack(tmp_path / "all", tmp_path / "whole")
    assert lottapack.inspect(tmp_path / "whole").scaffolds == {"task-b": f"{4:016x}"}


def test_a_base_that_was_cast_is_told_when_the_adapter_is_saved(tmp_path):
    base = lottapack.init_backbone_(nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 4)), seed=3).bfloat16()
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"]))
    with pytest.warns(BackboneChangedWarning, match=r"0\.weight was cast to bfloat16 .* generates it in float32"):
        model.save_pretrained(tmp_path / "a")
    base = lottapack.init_backbone_(nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 4)).bfloat16(), seed=3)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"]))
    model.save_pretrained(tmp_path / "b")


def test_a_base_in_bfloat16_keeps_the_dtypes_of_what_its_constructor_computes(tmp_path):
    base = lottapack.init_backbone_(BUILD["llama"]().bfloat16(), seed=3)
    assert base.model.rotary_emb.inv_freq.dtype == torch.bfloat16
    lottapack.pack(base, tmp_path / "plain")
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"])).eval()
    model.save_pretrained(tmp_path / "a")
    lottapack.pack(tmp_path / "a", tmp_path / PACK)
    late = lottapack.init_backbone_(BUILD["llama"](), seed=3)
    late.model.rotary_emb.bfloat16()  # after it was drawn
    peft.get_peft_model(late, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "late")
    for pack in (tmp_path / "plain", tmp_path / PACK, tmp_path / "late" / "base" / "model.lotta.safetensors"):
        loaded = lottapack.load(pack, merge=True)
        assert bits(loaded.model.rotary_emb.inv_freq) == bits(base.model.rotary_emb.inv_freq)
    assert bits(logits(lottapack.load(tmp_path / PACK), "llama")) == bits(logits(model, "llama"))
    opened = type(base).from_pretrained(tmp_path / "a" / "base")
    again = peft.PeftModel.from_pretrained(opened, tmp_path / "a").eval()
    assert bits(logits(again, "llama")) == bits(logits(model, "llama"))
    again.save_pretrained(tmp_path / "again")
    written = tmp_path / "again" / "base" / "model.lotta.safetensors"
    assert written.read_bytes() == (tmp_path / "a" / "base" / "model.lotta.safetensors").read_bytes()


# What the folder of an adapter alone does not tell.


def saved_and_loaded(model, tmp_path):
    model.eval().save_pretrained(tmp_path / "saved")
    lottapack.pack(tmp_path / "saved", tmp_path / PACK)
    return lottapack.load(tmp_path / PACK).eval()


def test_running_statistics_of_the_base_come_back(tmp_path):
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    model = peft.get_peft_model(lottapack.init_backbone_(plain, seed=9), peft.LoraConfig(r=2, target_modules=["0"]))
    given = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model.train()(given)
    loaded = saved_and_loaded(model, tmp_path)
    assert bits(loaded[1].running_mean) == bits(plain[1].running_mean)
    assert bits(loaded(given)) == bits(model(given))


def test_a_base_that_was_trained_beside_the_adapter_comes_back(tmp_path):
    model = peft.get_peft_model(drawn("distilbert"), peft.LoraConfig(r=2, target_modules=["q_lin"]))
    base = model.get_base_model()
    with torch.no_grad():
        base.classifier.weight.add_(0.5)
        base.classifier.bias.add_(0.5)
        base.distilbert.embeddings.LayerNorm.weight.mul_(2)
    with pytest.warns(BackboneChangedWarning, match=r"classifier\.weight"):
        loaded = saved_and_loaded(model, tmp_path)
    assert bits(logits(loaded, "distilbert")) == bits(logits(model, "distilbert"))


def test_biases_of_a_module_trained_in_full_are_saved_twice_by_peft(tmp_path):
    options = {"target_modules": ["q_lin"], "task_type": "SEQ_CLS", "bias": "all"}
    model = trained("distilbert", **options)
    assert any(".modules_to_save." in name for name in peft.get_peft_model_state_dict(model))
    loaded = saved_and_loaded(model, tmp_path)
    assert bits(logits(loaded, "distilbert")) == bits(logits(model, "distilbert"))


def another(model):
    model.add_adapter("b", peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.set_adapter("b")


def both(model):
    another(model)
    model.base_model.set_adapter(["default", "b"])


def off(model):
    model.base_model.disable_adapter_layers()


def louder(model):
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(2.0)


LEFT_OUT = {
    another: "runs the adapters b, .* and b is in ",
    both: "runs the adapters default, b, ",
    off: "adapters are disabled",
    louder: "scales its adapter by 6, but its configuration says 3",
}


@pytest.mark.parametrize("change", LEFT_OUT)
def test_what_peft_does_not_save_is_told(change, tmp_path):
    model = trained("llama", target_modules=["q_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOutWarning)
        model.save_pretrained(tmp_path / "saved")
    change(model)
    with pytest.warns(LeftOutWarning, match=LEFT_OUT[change]):
        model.save_pretrained(tmp_path / "saved")


def test_a_merged_adapter_is_not_in_the_base(tmp_path):
    model = trained("llama", target_modules=["q_proj"])
    model.save_pretrained(tmp_path / "saved")
    before = (tmp_path / "saved" / "base" / "model.lotta.safetensors").read_bytes()
    for change in (model.merge_adapter, model.unmerge_adapter):
        change()
        model.save_pretrained(tmp_path / "saved")
        assert (tmp_path / "saved" / "base" / "model.lotta.safetensors").read_bytes() == before


def test_a_base_with_nan_is_saved_and_refused_by_pack(tmp_path):
    model = trained("llama", target_modules=["q_proj"])
    with torch.no_grad():
        model.base_model.model.model.norm.weight[0] = float("nan")
    model.save_pretrained(tmp_path / "saved")  # as PEFT alone does: training goes on
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has NaN"):
        lottapack.pack(tmp_path / "saved", tmp_path / PACK)
