"""Trainers keep the recipe: every checkpoint packs without other arguments."""

import copy

import pytest
import torch
from models import all_bits, bits, mlp, tied_llama, train
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn
from training_models import BUILD, arguments, batch, dataset, fit, logits

import lottapack
from lottapack.nn import AdapterLayer

pytest.importorskip("transformers")


def weights(model):
    """Compare all bits except the recipe's: a trainer may change the configuration, which the pack then holds."""
    return {name: value for name, value in all_bits(model).items() if name != "lottapack_recipe"}


PACK = "pack.lotta.safetensors"


def scaffolded(name: str, **options: object) -> nn.Module:
    return lottapack.scaffold(BUILD[name](), **{"seed": 7, "rank": 2, **options})


def packed(run, checkpoint, folder):
    """Pack a checkpoint by the command and load it."""
    result = run("pack", checkpoint, "-o", folder / PACK)
    assert (result.code, result.err) == (0, "")
    return lottapack.load(folder / PACK, check_fingerprints=True)


@pytest.mark.parametrize("name", BUILD)
def test_the_trainer_saves_resumes_and_packs(name, run, tmp_path):
    from transformers import Trainer

    model = scaffolded(name)
    before = weights(model)
    Trainer(model=model, args=arguments(tmp_path / "run"), train_dataset=dataset(name)).train()
    trained = weights(model.eval())
    frozen = {key for key, _ in model.named_buffers()}
    assert {key for key in trained if trained[key] != before[key]}.isdisjoint(frozen)
    assert trained != before
    assert run("pack", tmp_path / "run" / "checkpoint-4").code == 0  # needs no other argument
    beside = tmp_path / "run" / "checkpoint-4.lotta.safetensors"
    assert weights(lottapack.load(beside)) == trained
    again = scaffolded(name)
    resumed = Trainer(model=again, args=arguments(tmp_path / "again"), train_dataset=dataset(name))
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert weights(packed(run, tmp_path / "again" / "checkpoint-4", tmp_path)) == trained
    resumed.model.save_pretrained(tmp_path / "saved", max_shard_size="4KB")
    assert len([*(tmp_path / "saved").glob("*.safetensors")]) > 1
    assert weights(packed(run, tmp_path / "saved", tmp_path)) == trained
    assert bits(logits(lottapack.load(beside), name)) == bits(logits(model, name))


def test_a_checkpoint_of_another_scaffold_does_not_resume(tmp_path):
    from transformers import Trainer

    model = scaffolded("llama")
    Trainer(model=model, args=arguments(tmp_path / "run", max_steps=2), train_dataset=dataset("llama")).train()
    other = Trainer(model=scaffolded("llama", seed=8), args=arguments(tmp_path / "b"), train_dataset=dataset("llama"))
    with pytest.raises(lottapack.errors.CheckpointError, match="another scaffold: seed 7, this model 8"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_the_trainer_with_mixed_precision_and_checkpointing(run, tmp_path):
    from transformers import Trainer

    model = scaffolded("llama")
    options = arguments(tmp_path / "run", bf16=True, activation_checkpointing=True, weight_decay=0.1)
    Trainer(model=model, args=options, train_dataset=dataset("llama")).train()
    assert weights(packed(run, tmp_path / "run" / "checkpoint-4", tmp_path)) == weights(model.eval())


def test_accelerate_saves_a_checkpoint_that_packs(run, tmp_path):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = scaffolded("gpt2")
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model, optimiser = accelerator.prepare(model, optimiser)
    for step in range(3):
        accelerator.backward(model(**batch("gpt2", seed=step)).loss)
        optimiser.step()
        optimiser.zero_grad()
    accelerator.save_model(model, tmp_path / "weights")
    accelerator.save_state(tmp_path / "state")
    trained = weights(accelerator.unwrap_model(model).eval())
    assert weights(packed(run, tmp_path / "weights", tmp_path)) == trained
    assert weights(packed(run, tmp_path / "state", tmp_path)) == trained
    fit(accelerator.unwrap_model(model), "gpt2", steps=1)
    accelerator.load_state(tmp_path / "state")
    assert weights(accelerator.unwrap_model(model).eval()) == trained


@pytest.mark.every
def test_a_compiled_model_trains_and_packs(run, tmp_path):
    model = scaffolded("distilbert")
    compiled = torch.compile(model, backend="aot_eager")
    fit(compiled, "distilbert")
    torch.save(compiled.state_dict(), tmp_path / "compiled.pt")
    assert weights(packed(run, tmp_path / "compiled.pt", tmp_path)) == weights(model)


def test_files_of_torch_and_safetensors(run, tmp_path):
    model = fit(scaffolded("vit"), "vit")
    torch.save({"step": 3, "model": model.state_dict()}, tmp_path / "last.ckpt")
    save_file(model.state_dict(), tmp_path / "last.safetensors")
    for checkpoint in ("last.ckpt", "last.safetensors"):
        assert weights(packed(run, tmp_path / checkpoint, tmp_path)) == weights(model)
    assert run("pack", tmp_path / "last.ckpt", "--quiet").code == 0
    assert (tmp_path / "last.lotta.safetensors").read_bytes() == (tmp_path / PACK).read_bytes()


AVERAGES = {
    "mean": {},
    "ema": {"multi_avg_fn": get_ema_multi_avg_fn(0.9)},
    "ema, one by one": {"avg_fn": get_ema_avg_fn(0.9)},
}


@pytest.mark.parametrize("buffers", [False, True], ids=["parameters", "and buffers"])
@pytest.mark.parametrize("average", AVERAGES)
def test_averaged_copies_keep_the_recipe(average, buffers, run, tmp_path):
    """Averaging buffers changes the recipe's bytes and the bits of a backbone outside checkpoints."""
    model = scaffolded("llama")
    mean = AveragedModel(model, use_buffers=buffers, **AVERAGES[average])
    for seed in range(4):
        train(model, seed)
        mean.update_parameters(model)
    torch.save(mean.state_dict(), tmp_path / "mean.pt")
    expected = {name: bits(value) for name, value in mean.module.named_parameters()}
    loaded = packed(run, tmp_path / "mean.pt", tmp_path)
    assert {name: bits(value) for name, value in loaded.named_parameters()} == expected
    assert lottapack.nn.recipe_of(mean) == lottapack.nn.recipe_of(model)
    assert lottapack.nn.recipe_of(copy.deepcopy(model)) == lottapack.nn.recipe_of(model)


@pytest.mark.parametrize("name", ["llama", "gpt2", "vit"])
def test_adapter_layers_return_what_stock_layers_do_under_autocast(name):
    found = {}

    def note(module, _, out):
        found[module] = out.dtype

    model = scaffolded(name)
    for module in model.modules():
        if isinstance(module, AdapterLayer):
            module.register_forward_hook(note)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**batch(name))
    assert found
    assert set(found.values()) == {torch.bfloat16}


@pytest.mark.parametrize("targets", [["q_proj"], ["v_proj", "up_proj"]])
def test_some_targets_train_under_autocast_and_in_bfloat16(targets):
    for dtype, autocast in ((torch.float32, True), (torch.bfloat16, False)):
        model = lottapack.scaffold(tied_llama(dtype), seed=1, rank=2, targets=targets)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(input_ids=torch.arange(6)[None], labels=torch.arange(6)[None]).loss
        loss.backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_gradient_checkpointing_gives_the_same_gradients():
    grads = []
    for checkpointing in (False, True):
        model = scaffolded("llama").train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(**batch("llama")).loss.backward()
        grads.append({name: bits(p.grad) for name, p in model.named_parameters() if p.requires_grad})
    assert grads[0] == grads[1]


def test_beta_in_float32_beside_a_half_precision_layer():
    layer = lottapack.scaffold(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)).bfloat16(), seed=1, rank=2)
    layer[0].beta = nn.Parameter(layer[0].beta.detach().float())
    assert layer(torch.ones(1, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert lottapack.nn.is_scaffolded(mlp()) is False
