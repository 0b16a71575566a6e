"""Models drawn by torch under a seed: packed by equality, opened only where torch draws the same."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
import torch
from cli_runs import Result
from models import all_bits, bits, cnn, mlp
from safetensors.torch import load_file, save_file
from torch import nn
from training_models import BUILD, fit, logits

import lottapack
from lottapack import rng
from lottapack.arch import drawn
from lottapack.errors import CheckpointError
from lottapack.nn import recipe_of

PACK = "torch.lotta.safetensors"
OPTIONS = ("--rng", "torch-cpu", "--seed")


def built(build, seed=11, **options):
    """Seed, then build, as everyone does."""
    torch.manual_seed(seed)
    return build(**options)


def partly_trained(name, seed=11):
    """A model whose second block and head were trained."""
    model = built(BUILD[name], seed)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(".1." in key or key.startswith("classifier"))
    return fit(model, name)


def refused(run, *line, words, code=2):
    out = line[-1]
    result = run(*line[:-1], "-o", out)
    assert (result.code, result.out) == (code, "")
    assert "Traceback" not in result.err
    assert [word for word in words if word not in result.err] == []
    assert not out.exists()


@pytest.mark.parametrize("name", BUILD)
def test_partly_frozen_models_come_back(name, run, tmp_path):
    model = partly_trained(name)
    model.save_pretrained(tmp_path / "saved")
    state = torch.get_rng_state()
    result = run("pack", tmp_path / "saved", *OPTIONS, 11)
    assert result.code == 0
    assert "weights differ from what torch draws from seed 11, so the pack stores them" in result.err
    path = tmp_path / "saved.lotta.safetensors"
    found = lottapack.inspect(path)
    assert (found.rng, found.torch, found.capability) == ("torch-cpu", *drawn.versions())
    assert f"torch-cpu (torch {found.torch}, {found.capability}), seed 11" in run("inspect", path).out
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    roles = {entry.name: (entry.role, entry.trained) for entry in found.parameters}
    assert {name for name, (role, is_trained) in roles.items() if role == "stored" and is_trained} == trained
    assert sum(role == "seeded" for role, _ in roles.values()) >= 4
    assert path.stat().st_size < (tmp_path / "saved" / "model.safetensors").stat().st_size
    assert run("verify", path).code == 0
    expected = all_bits(model)
    assert all_bits(lottapack.load(path, merge=True)) == expected
    loaded = lottapack.load(path)
    assert all_bits(loaded).items() >= expected.items()
    assert bits(logits(loaded, name)) == bits(logits(model, name))
    assert torch.equal(torch.get_rng_state(), state)
    assert run("export", path, "-o", tmp_path / "plain.safetensors").code == 0
    written = load_file(tmp_path / "plain.safetensors")
    assert {key: bits(value) for key, value in written.items()} == {
        key: bits(value) for key, value in model.state_dict().items()
    }


def test_json_names_all_that_is_stored(run, tmp_path):
    model = partly_trained("llama")
    torch.save({"epoch": 1, "model": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "last.pt")
    model.config.save_pretrained(tmp_path / "arch")
    line = ("pack", tmp_path / "last.pt", *OPTIONS, 11, "-o", tmp_path / PACK, "--json")
    arch = "--arch", tmp_path / "arch" / "config.json"
    config = json.loads(arch[1].read_text())
    arch[1].write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
    found = json.loads(run(*line, *arch).out)
    trained = {
        key: value.numel() * 4 for key, value in model.named_parameters() if value.requires_grad and "norm" not in key
    }
    assert found["stored_instead"] == trained
    assert f"{len(trained)} weights" in found["warnings"][0]
    assert "and 2 more" in found["warnings"][0]
    assert all_bits(lottapack.load(tmp_path / PACK, merge=True)) == all_bits(model)


def test_models_of_torch_nn(run, tmp_path):
    for name, build in {"mlp": mlp, "cnn": cnn}.items():
        model = built(build, 3)
        with torch.no_grad():
            next(iter(model.children())).weight += 1
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
        with pytest.warns(lottapack.errors.BackboneChangedWarning, match=r"1 weights.*0\.weight"):
            lottapack.pack(
                lottapack.recover.torch_cpu(model.state_dict(), seed=3, architecture=build()), tmp_path / "one"
            )
        with lottapack.open_pack(tmp_path / "one") as pack:
            whole = pack.descriptor.architecture
        arch = tmp_path / f"{name}.json"
        arch.write_text(json.dumps({"family": whole.family, "class": whole.class_, "config": whole.config}))
        result = run("pack", tmp_path / f"{name}.safetensors", *OPTIONS, 3, "--arch", arch, "-o", tmp_path / "two")
        assert result.code == 0
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        assert all_bits(lottapack.load(tmp_path / "two", merge=True)) == all_bits(model)


@pytest.mark.filterwarnings("ignore::lottapack.errors.BackboneChangedWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_checkpoint_that_was_converted(dtype, tmp_path):
    model = partly_trained("llama").to(dtype)
    lottapack.pack(lottapack.recover.torch_cpu(model, seed=11, architecture=model), tmp_path / PACK)
    roles = {entry.name: (entry.role, entry.dtype) for entry in lottapack.inspect(tmp_path / PACK).parameters}
    assert roles["model.layers.0.mlp.up_proj.weight"] == ("seeded", str(dtype).removeprefix("torch."))
    weights = {key: bits(value) for key, value in lottapack.load(tmp_path / PACK, merge=True).named_parameters()}
    assert weights == {key: bits(value) for key, value in model.named_parameters()}


def test_training_goes_on(tmp_path):
    model = built(mlp, 3)
    lottapack.pack(lottapack.recover.torch_cpu(model, seed=3, architecture=model), tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a")
    plan = recipe_of(loaded)
    assert (plan.rng.torch, plan.rng.capability) == drawn.versions()
    lottapack.pack(loaded, tmp_path / "b")
    lottapack.pack(loaded.state_dict(), tmp_path / "c")
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    before = all_bits(loaded)
    for buffer in (loaded[0].weight, loaded[4].bias):
        buffer.zero_()
    lottapack.nn.regenerate_(loaded)
    assert all_bits(loaded) == before


def test_another_machine_cannot_pack_what_it_cannot_check(tmp_path, monkeypatch):
    """Without the backbone in the checkpoint, only versions tell whether torch would draw the same."""
    model = built(mlp, 3)
    lottapack.pack(lottapack.recover.torch_cpu(model, seed=3, architecture=model), tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a")
    state = loaded.state_dict()
    monkeypatch.setattr("lottapack.packing.packer.versions", lambda: ("1.0", "AVX9000"))
    monkeypatch.setattr("lottapack.arch.drawn.versions", lambda: ("1.0", "AVX9000"))
    with pytest.raises(
        lottapack.errors.UnsupportedError, match=r"drawn by torch .* this machine has torch 1\.0 and AVX9000"
    ):
        lottapack.pack(state, tmp_path / "b")
    with pytest.raises(lottapack.errors.UnsupportedError, match="cannot be checked"):
        lottapack.nn.regenerate_(loaded)
    lottapack.pack(loaded, tmp_path / "b")  # compared, bit for bit
    with lottapack.open_pack(tmp_path / "b") as pack:
        assert (pack.descriptor.rng.torch, pack.descriptor.rng.capability) == ("1.0", "AVX9000")
    assert not (tmp_path / "c").exists()


IN_TURN = """
import contextlib, io, json, sys
from lottapack_cli.app import main
ran = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(line)
    ran.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ran))
"""


def elsewhere(*lines):
    """Run commands in one process without vector instructions, where torch draws other normals."""
    command = [sys.executable, "-c", IN_TURN, json.dumps([[*map(str, line)] for line in lines])]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return [Result(*ran) for ran in json.loads(done.stdout)]


@pytest.mark.slow
@pytest.mark.skipif(drawn.versions()[1] == "DEFAULT", reason="this processor has no vector instructions")
def test_a_machine_that_draws_other_numbers_is_refused(run, tmp_path):
    model = built(BUILD["gpt2"])
    model.save_pretrained(tmp_path / "saved")
    assert run("pack", tmp_path / "saved", *OPTIONS, 11, "-o", tmp_path / PACK).code == 0
    version, capability = drawn.versions()
    out = tmp_path / "plain.safetensors"
    refusal, checked, there = elsewhere(
        ("export", tmp_path / PACK, "-o", out),
        ("verify", tmp_path / PACK, "--json"),
        ("pack", tmp_path / "saved", *OPTIONS, 11, "-o", out),
    )
    assert (refusal.code, refusal.out) == (1, "")
    words = [f"packed with torch {version} on a CPU with {capability}", "DEFAULT", "transformers 5", "c_attn.weight"]
    assert [word for word in words if word not in refusal.err] == []
    assert not out.exists()
    assert checked.code == 1
    failed = [check for check in json.loads(checked.out)["checks"] if check["status"] == "failed"]
    assert {check["what"] for check in failed} == {"fingerprint"}
    assert there.code == 2
    assert "nothing matches" in there.err


def test_a_changed_seed_is_found_at_loading(tmp_path):
    model = built(mlp, 3)
    lottapack.pack(lottapack.recover.torch_cpu(model, seed=3, architecture=model), tmp_path / "a")
    plan = recipe_of(lottapack.load(tmp_path / "a"))
    content = (tmp_path / "a").read_bytes()
    with lottapack.open_pack(tmp_path / "a") as pack:
        import hashlib

        text = pack.descriptor.to_bytes()
        other = text.replace(plan.rng.seed.encode(), b"0000000000000004")
        digests = [hashlib.sha256(found).hexdigest().encode() for found in (text, other)]
    escaped = [found.replace(b'"', b'\\"') for found in (text, other)]
    (tmp_path / "b").write_bytes(content.replace(escaped[0], escaped[1]).replace(*digests))
    with pytest.raises(lottapack.errors.IntegrityError, match=r"0\.weight: was drawn with the fingerprint") as caught:
        lottapack.load(tmp_path / "b")
    assert len(caught.value.problems) == 6
    assert not lottapack.verify(tmp_path / "b").ok


def test_a_wrong_seed_matches_nothing(run, tmp_path):
    partly_trained("vit").save_pretrained(tmp_path / "saved")
    words = ["nothing matches", "seed 12", "Check the seed", "torch.manual_seed", drawn.versions()[0]]
    refused(run, "pack", tmp_path / "saved", *OPTIONS, 12, tmp_path / PACK, words=words)


def test_checkpoints_that_do_not_fit(run, tmp_path):
    model = built(BUILD["llama"])
    model.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "model.safetensors"
    whole = load_file(file)

    def with_tensors(tensors, *words):
        save_file(tensors, file)
        refused(run, "pack", tmp_path / "saved", *OPTIONS, 11, tmp_path / PACK, words=words)

    with_tensors({k: v for k, v in whole.items() if "norm" not in k}, "lacks 5 tensors", "model.norm.weight")
    with_tensors({**whole, "other.weight": torch.ones(2)}, "has 1 tensors left over", "other.weight")
    with_tensors({**whole, "model.norm.weight": torch.ones(3)}, "model.norm.weight has shape (3,), but (16,)")
    with_tensors({"other.weight": torch.ones(2)}, "does not contain tensors of a LlamaForCausalLM")
    (tmp_path / "index").mkdir()
    index = {"weight_map": dict.fromkeys(whole, "gone.safetensors")}
    (tmp_path / "index" / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(tmp_path / "saved" / "config.json", tmp_path / "index")
    refused(run, "pack", tmp_path / "index", *OPTIONS, 11, tmp_path / PACK, words=["gone.safetensors is missing"])


def test_architectures_that_are_none(run, tmp_path):
    save_file(built(mlp).state_dict(), tmp_path / "a.safetensors")

    def with_arch(text, *words):
        (tmp_path / "arch.json").write_text(text)
        line = ("pack", tmp_path / "a.safetensors", *OPTIONS, 11, "--arch", tmp_path / "arch.json", tmp_path / PACK)
        refused(run, *line, words=words)

    with_arch("{", "as an architecture")
    with_arch("{}", "neither a transformers config.json")
    with_arch('{"family": "torch.nn", "class": "Exec", "config": {}}', "does not allow the module 'Exec'")
    with_arch(
        '{"model_type": "llama", "architectures": ["NoSuchModel"]}', "does not have the model class 'NoSuchModel'"
    )
    with_arch('{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "auto_map": {"a": "b"}}', "auto_map")
    refused(run, "pack", tmp_path / "a.safetensors", *OPTIONS, 11, tmp_path / PACK, words=["Pass --arch"])
    gone = ("--arch", tmp_path / "gone.json", tmp_path / PACK)
    refused(run, "pack", tmp_path / "a.safetensors", *OPTIONS, 11, *gone, words=["cannot read", "as an architecture"])


class Code:
    def __reduce__(self):
        return print, ("a checkpoint ran code",)


def test_pickles_run_no_code(run, tmp_path):
    torch.save({"x": Code()}, tmp_path / "code.pt")
    for line in ((*OPTIONS, 1), ("--from-merged", "--max-rank", 2, "--seed", 1)):
        arch = tmp_path / "arch.json"
        arch.write_text('{"family": "torch.nn", "class": "Tanh", "config": {}}')
        refused(
            run,
            "pack",
            tmp_path / "code.pt",
            *line,
            "--arch",
            arch,
            tmp_path / PACK,
            words=["as tensors"],
        )


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_lora_on_a_model_that_torch_drew(run, tmp_path):
    peft = pytest.importorskip("peft")
    base = built(BUILD["llama"])
    expected_base = all_bits(base)
    base.config.save_pretrained(tmp_path / "arch")
    config = json.loads((tmp_path / "arch" / "config.json").read_text())
    (tmp_path / "arch" / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}))
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    fit(model, "llama").save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "base").exists()
    line = ("pack", tmp_path / "adapter", *OPTIONS, 11, "--arch", tmp_path / "arch", "-o", tmp_path / PACK)
    assert run(*line).code == 0
    assert run("verify", tmp_path / PACK).code == 0
    loaded = lottapack.load(tmp_path / PACK)
    assert torch.allclose(logits(loaded, "llama"), logits(model, "llama"), rtol=1e-4, atol=1e-5)
    lottapack.pack(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / PACK).read_bytes()
    assert run("export", tmp_path / PACK, "-o", tmp_path / "out", "--format", "peft").code == 0
    import transformers

    rebuilt = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "base")
    kept = {key for key in expected_base if key != "lm_head.weight"}
    assert {key: all_bits(rebuilt)[key] for key in kept} == {key: expected_base[key] for key in kept}
    again = peft.PeftModel.from_pretrained(rebuilt, tmp_path / "out")
    assert bits(logits(again, "llama")) == bits(logits(model, "llama"))


def test_threads_load_at_once_and_keep_the_random_state(tmp_path):
    models = {name: built(build, 3) for name, build in {"mlp": mlp, "cnn": cnn}.items()}
    for name, model in models.items():
        lottapack.pack(lottapack.recover.torch_cpu(model, seed=3, architecture=model), tmp_path / name)
    state, found = torch.get_rng_state(), []

    def work(name):
        found.append((name, all_bits(lottapack.load(tmp_path / name, merge=True))))

    workers = [threading.Thread(target=work, args=[name]) for name in [*models] * 3]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 6
    assert all(content == all_bits(models[name]) for name, content in found)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_default_dtype_and_device_of_the_caller_play_no_part(tmp_path):
    model = built(mlp, 3)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            lottapack.pack(lottapack.recover.torch_cpu(model.state_dict(), seed=3, architecture=model), tmp_path / "a")
            assert torch.get_default_dtype() == torch.float64
        assert all_bits(lottapack.load(tmp_path / "a", merge=True)) == all_bits(model)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("seed", [-1, 2**64, "3"])
def test_seeds_that_are_none(seed, tmp_path):
    with pytest.raises(lottapack.errors.ScaffoldError, match="must be an integer from 0"):
        lottapack.pack(
            lottapack.recover.torch_cpu({}, seed=seed, architecture=nn.Sequential(nn.Linear(2, 2))), tmp_path / "a"
        )


def test_the_id_of_the_distribution_is_taken():
    with pytest.raises(lottapack.errors.UnsupportedError, match="'constructor' cannot be the id of your own table"):
        rng.custom("constructor", [-1.0, 1.0])


@pytest.mark.parametrize("cast", [False, True])
def test_a_changed_weight_is_not_packed_as_drawn(cast, tmp_path):
    """No source draws such a weight again, so a state_dict must tell in another way."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 4))
    lottapack.pack(lottapack.recover.torch_cpu(net, seed=3, architecture=net), tmp_path / "a")
    for model in (
        lottapack.load(tmp_path / "a"),
        lottapack.distributed.fill_(lottapack.distributed.load_meta(tmp_path / "a"), tmp_path / "a"),
    ):
        model = model.bfloat16() if cast else model
        lottapack.pack(model.state_dict(), tmp_path / "b")
        model[0].weight.mul_(2)
        with pytest.raises(CheckpointError, match=r"0\.weight is not what its seed gives"):
            lottapack.pack(model.state_dict(), tmp_path / "b")
        lottapack.nn.regenerate_(model)
        lottapack.pack(model.state_dict(), tmp_path / "b")
