"""Checkpoints as tools and scripts leave them: read, or refused with an error that names the cause."""

import argparse
import copy
import pathlib
import re
import shutil
import tarfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from models import all_bits, mlp, tied_llama, train, trained
from safetensors.torch import load_file, save_file
from torch import nn
from training_models import BUILD

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError

PACK = "pack.lotta.safetensors"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
]


def packed(checkpoint, folder, **options):
    lottapack.pack(checkpoint, folder / PACK, **options)
    return lottapack.load(folder / PACK)


def test_values_that_are_no_tensors_are_named(tmp_path):
    model = trained("mlp")
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    named = r"lottapack_recipe is a numpy.ndarray, not a torch.Tensor"
    for refused in (
        lambda: lottapack.pack(arrays, tmp_path / PACK),
        lambda: lottapack.pack({"epoch": 3, "model": arrays}, tmp_path / PACK),
        lambda: model.load_state_dict(arrays),
    ):
        with pytest.raises(CheckpointError, match=named) as raised:
            refused()
        assert "torch.as_tensor" in raised.value.hint
    plain = {name: tensor.numpy() for name, tensor in mlp().state_dict().items()}
    with pytest.raises(CheckpointError, match=r"0\.weight is a numpy.ndarray, not a torch.Tensor"):
        lottapack.recover.merged(plain, seed=1, max_rank=2, architecture=mlp())
    found = {name: torch.as_tensor(value) for name, value in arrays.items()}
    assert all_bits(packed(found, tmp_path)) == all_bits(model)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("wrapping", ["compiled by region", "compiled whole", "ddp within", "checkpointed"])
def test_names_inside_wrappers(wrapping, live, tmp_path):
    model = trained("mlp")
    due = all_bits(model)
    if wrapping == "compiled by region":
        model[2], model[4] = torch.compile(model[2]), torch.compile(model[4])
    elif wrapping == "compiled whole":
        model = torch.compile(model)
    elif wrapping == "ddp within":
        model[2] = nn.DataParallel(model[2])
    else:
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

        model[2] = checkpoint_wrapper(model[2])
    assert all_bits(packed(model if live else model.state_dict(), tmp_path)) == due


def averaged(states, weights):
    return {
        name: sum(weight * state[name].float() for weight, state in zip(weights, states, strict=True))
        for name in states[0]
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_a_recipe_of_any_dtype(dtype, tmp_path):
    model = trained("mlp")
    state = model.state_dict()
    state["lottapack_recipe"] = state["lottapack_recipe"].to(dtype)
    assert all_bits(packed(state, tmp_path)) == all_bits(model)


def test_averages_and_buffers_saved_as_floats(tmp_path):
    model = trained("cnn")
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    assert state["1.num_batches_tracked"].dtype == torch.float32
    assert all_bits(packed(state, tmp_path)) == all_bits(model)
    other = train(copy.deepcopy(model), seed=4)
    ema = averaged([model.state_dict(), model.state_dict(), other.state_dict()], [0.9, 0.0999, 0.0001])
    with pytest.raises(
        CheckpointError, match=r"1\.num_batches_tracked is torch\.float32 with values that are not integers"
    ):
        packed(ema, tmp_path)
    ema["1.num_batches_tracked"] = model.state_dict()["1.num_batches_tracked"]
    rebuilt = packed(ema, tmp_path).state_dict()
    assert all(torch.equal(rebuilt[name], ema[name]) for name in ema if name != "lottapack_recipe")


def test_an_average_of_different_models_is_refused(tmp_path):
    states = [trained("mlp", seed=seed).state_dict() for seed in (2, 3)]
    with pytest.raises(CheckpointError, match="averaged over different models"):
        packed(averaged(states, [0.5, 0.5]), tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["checkpoint.tar", "model_best.pth.tar"])
def test_checkpoints_of_training_scripts(name, zipped, tmp_path):
    """As the scripts of timm, DeiT and torch's ImageNet example write them: an archive by name only."""
    model = trained("mlp")
    content = {"epoch": 3, "arch": "mlp", "state_dict": model.state_dict(), "args": argparse.Namespace(lr=0.1, opt="x")}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert all_bits(packed(tmp_path / name, tmp_path)) == all_bits(model)


def test_an_archive_is_no_checkpoint(tmp_path):
    (tmp_path / "notes").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "notes", "notes")
    with pytest.raises(CheckpointError, match=r"a\.tar as tensors: torch\.save did not write it"):
        packed(tmp_path / "a.tar", tmp_path)


@pytest.mark.parametrize("end", [".pt", ".ckpt"])
def test_numpy_scalars_and_dtypes_beside_the_weights(end, tmp_path):
    model = trained("mlp")
    extra = {"best_acc": np.float64(0.9), "step": np.int32(3), "flag": np.bool_(True), "dtype": np.dtype("float32")}
    torch.save({"model": model.state_dict(), **extra}, tmp_path / f"a{end}")
    before = set(torch.serialization.get_safe_globals())
    assert all_bits(packed(tmp_path / f"a{end}", tmp_path)) == all_bits(model)
    assert set(torch.serialization.get_safe_globals()) == before


def test_readers_in_threads_do_not_disturb_each_other(tmp_path):
    torch.save({"model": trained("mlp").state_dict(), "acc": np.float64(1)}, tmp_path / "a.pt")
    torch.serialization.add_safe_globals([np.dtype])  # the caller's own permissions stay
    before = set(torch.serialization.get_safe_globals())

    def work(number):
        for _ in range(5):
            lottapack.pack(tmp_path / "a.pt", tmp_path / f"{number}.lotta.safetensors")

    try:
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(work, range(4))) == [None] * 4
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization._weights_only_unpickler._remove_safe_globals([np.dtype])


class Settings:
    """A class that a script pickles along."""


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (argparse.Namespace(settings=Settings()), "Settings"),
        (pathlib.PurePosixPath("x"), "pathlib.PurePosixPath"),
        (Settings(), "Settings"),
        (np.ones(3), "numpy._core.multiarray._reconstruct`, `numpy.ndarray"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_other_pickled_objects_are_named(extra, name, tmp_path):
    torch.save({"model": trained("mlp").state_dict(), "extra": extra, "acc": np.float64(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"contains `.*{name}`, which torch refuses") as caught:
        packed(tmp_path / "a.pt", tmp_path)
    assert "weights_only=False" in caught.value.hint and "state_dict" in caught.value.hint


def test_a_whole_pickled_model_is_named(tmp_path):
    torch.save(trained("mlp"), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"`torch\.nn\.modules\.container\.Sequential`.*torch refuses") as caught:
        packed(tmp_path / "a.pt", tmp_path)
    assert "content.state_dict()" in caught.value.hint


@pytest.mark.filterwarnings("ignore:.*[Ss]parse:UserWarning", "ignore:.*quantized tensor:UserWarning")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.to_sparse(), "sparse_coo"),
        (lambda t: t.to_sparse_csr(), "sparse_csr"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantized"),
        (lambda t: torch.nested.nested_tensor([t, t]), "nested"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*prototype:UserWarning")
def test_tensors_of_other_layouts_are_named(change, word, tmp_path):
    state = trained("mlp").state_dict()
    state["4.weight"] = change(state["4.weight"])
    with pytest.raises(CheckpointError, match=rf"4\.weight is a {word} tensor"):
        packed(state, tmp_path)


@pytest.mark.parametrize("name", ["0.lora_A", "2.beta", "4.weight", "1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_by_name(name, value, tmp_path, run):
    model = trained("cnn" if "running" in name else "mlp")
    state = model.state_dict()
    state[name].view(-1)[-1] = value
    save_file(state, tmp_path / "a.safetensors")
    if value == float("inf") and "running" in name:
        assert all_bits(packed(state, tmp_path)) == all_bits(model)  # buffers may hold infinity, as masks do
        return
    with pytest.raises(CheckpointError, match=rf"{name} has NaN or infinity in 1 of its"):
        packed(state, tmp_path)
    assert run("pack", tmp_path / "a.safetensors").code == 2
    assert run("pack", tmp_path / "a.safetensors", "--allow-nonfinite").code == 0
    assert all_bits(packed(state, tmp_path, allow_nonfinite=True)) == all_bits(model)


def test_merged_weights_that_are_none_are_refused(tmp_path):
    merged = mlp().state_dict()
    merged["2.weight"][0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"2\.weight contains NaN"):
        lottapack.pack(lottapack.recover.merged(merged, seed=1, max_rank=2, architecture=mlp()), tmp_path / PACK)


def folder(path, *files):
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(trained("mlp").state_dict(), path / name)
    return path


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["checkpoint-9/model.safetensors", "checkpoint-40/model.safetensors"], "newest is .*/checkpoint-40"),
        (["checkpoint_0/model.safetensors", "checkpoint_1/model.safetensors"], "newest is .*/checkpoint_1"),
        (["red/adapter_model.safetensors", "blue/adapter_config.json"], "PEFT adapters. Name one: .*/blue, .*/red"),
        (["final/model.safetensors"], "checkpoints. Name one: .*/final"),
        (["__0_0.distcp", ".metadata"], "dcp_to_torch .* full.pt"),
        (["pytorch_model_fsdp_0/__0_0.distcp"], "dcp_to_torch .*/pytorch_model_fsdp_0 full.pt"),
        (["zero_to_fp32.py", "global_step3/mp_rank_00_model_states.pt"], "zero_to_fp32.py"),
        (["model-00001-of-00002.safetensors"], "without their index"),
        (["last.ckpt"], "1 files that may be checkpoints. Name one; the newest is .*/last.ckpt"),
        (["notes/readme"], "looked for"),
    ],
)
def test_a_folder_without_a_checkpoint_says_what_it_holds(files, words, tmp_path):
    with pytest.raises(CheckpointError, match="does not contain a checkpoint") as caught:
        packed(folder(tmp_path / "run", *files), tmp_path)
    assert re.search(words, caught.value.hint)


def test_a_folder_with_a_second_model_is_refused_by_name(tmp_path):
    run = folder(tmp_path / "run", "model.safetensors", "model_1.safetensors", "optimizer.pt", "rng_state_0.pth")
    with pytest.raises(CheckpointError, match=r"more weights than model\.safetensors.*\n.*ignore=model_1\.safetensors"):
        packed(run, tmp_path)
    assert lottapack.pack(run, tmp_path / PACK, ignore="model_1.safetensors").left_out == ("model_1.safetensors",)
    save_file({}, folder(run, "2_Dense/model.safetensors") / "x.lotta.safetensors")
    (run / "modules.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"2_Dense"):
        packed(run, tmp_path, ignore="model_1.safetensors")


def test_the_name_of_the_recipe_is_taken():
    for build in (lottapack.scaffold, lambda m, **o: lottapack.init_backbone_(m, seed=1)):
        model = nn.Sequential(OrderedDict(lottapack_recipe=nn.Linear(8, 8), z=nn.Linear(8, 2)))
        with pytest.raises(ScaffoldError, match="already uses the name lottapack_recipe"):
            build(model, seed=1, rank=2)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_packing_under_another_default_device(device, tmp_path):
    model = trained("cnn")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with torch.device(device):
        lottapack.pack(tmp_path / "a.pt", tmp_path / PACK)
        lottapack.pack(model, tmp_path / "live.lotta.safetensors")
    assert (tmp_path / PACK).read_bytes() == (tmp_path / "live.lotta.safetensors").read_bytes()
    assert all_bits(lottapack.load(tmp_path / PACK)) == all_bits(model)


transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("prepare", [lottapack.scaffold, lottapack.init_backbone_])
def test_a_model_from_a_checkpoint_is_not_redrawn(prepare, tmp_path):
    options = {"seed": 1, "rank": 2} if prepare is lottapack.scaffold else {"seed": 1}
    tied_llama().save_pretrained(tmp_path / "llama")
    for base in ("LlamaForCausalLM", "LlamaModel", "LlamaForSequenceClassification"):
        loaded = getattr(transformers, base).from_pretrained(tmp_path / "llama")
        before = all_bits(loaded)
        with pytest.raises(ScaffoldError, match=r"loaded from a checkpoint .* random weights"):
            prepare(loaded, **options)
        assert all_bits(loaded) == before
    prepare(transformers.LlamaForCausalLM.from_pretrained(tmp_path / "llama"), **options, overwrite_pretrained=True)


@pytest.mark.parametrize("name", BUILD)
def test_a_model_of_a_configuration_that_was_loaded_is_scaffolded(name, tmp_path):
    plain = BUILD[name]()
    plain.save_pretrained(tmp_path / "m")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "m")
    assert config._name_or_path
    lottapack.scaffold(type(plain)._from_config(config), seed=1, rank=2)
    lottapack.init_backbone_(type(plain)(config), seed=1)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A PEFT adapter on a drawn backbone: the model, and its folder."""
    peft = pytest.importorskip("peft")
    base = lottapack.init_backbone_(BUILD["distilbert"](), seed=5)
    config = peft.LoraConfig(r=2, target_modules=["q_lin", "word_embeddings"], modules_to_save=["classifier"])
    model = train(peft.get_peft_model(base, config))
    where = tmp_path_factory.mktemp("adapter") / "saved"
    model.save_pretrained(where)
    return model, where


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize("form", ["named", "whole state", "compiled", "ddp"])
def test_adapters_under_other_names(form, adapter, tmp_path):
    model, where = adapter
    due = all_bits(packed(where, tmp_path))
    again = shutil.copytree(where, tmp_path / "again")
    saved = load_file(where / "adapter_model.safetensors")
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    if form == "named":
        state = {key: t for key, t in state.items() if "lora" in key or "modules_to_save" in key}
    elif form == "compiled":
        state = {f"_orig_mod.{key.replace('q_lin', 'q_lin._orig_mod')}": tensor for key, tensor in saved.items()}
    elif form == "ddp":
        state = {f"module.{key}": tensor for key, tensor in saved.items()}
    save_file(state, again / "adapter_model.safetensors")
    assert all_bits(packed(again, tmp_path)) == due


def test_two_adapters_in_one_file_are_named(adapter, tmp_path):
    _, where = adapter
    again = shutil.copytree(where, tmp_path / "again")
    saved = load_file(where / "adapter_model.safetensors")
    both = {
        key.replace("lora_A.", f"lora_A.{name}."): t.clone() for key, t in saved.items() for name in ("red", "blue")
    }
    save_file(both, again / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="2 adapters: blue, red"):
        packed(again, tmp_path)


def test_an_adapter_in_a_subfolder_finds_its_base(adapter, tmp_path):
    peft = pytest.importorskip("peft")
    base = lottapack.init_backbone_(BUILD["distilbert"](), seed=5)
    model = train(peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_lin"]), adapter_name="red"))
    model.save_pretrained(tmp_path / "run")
    with pytest.raises(CheckpointError, match="does not contain a checkpoint") as caught:
        packed(tmp_path / "run", tmp_path)
    assert str(tmp_path / "run" / "red") in caught.value.hint
    assert packed(tmp_path / "run" / "red", tmp_path)


def test_an_adapter_on_pretrained_weights_says_so_at_once(tmp_path, run):
    peft = pytest.importorskip("peft")
    BUILD["distilbert"]().save_pretrained(tmp_path / "pretrained")
    base = transformers.DistilBertForSequenceClassification.from_pretrained(tmp_path / "pretrained")
    peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_lin"])).save_pretrained(tmp_path / "adapter")
    for options in ([], ["--base", tmp_path / "pretrained"]):
        refused = run("pack", tmp_path / "adapter", *options)
        assert refused.code == 2
        assert "seed" in refused.err and "pretrained weights" in refused.err and "as PEFT saved it" in refused.err
    refused = run("pack", tmp_path / "pretrained")
    assert "Pretrained weights cannot be packed" in refused.err
