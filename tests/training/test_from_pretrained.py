"""transformers opens folders with a pack: from_pretrained, pipelines, generation."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from extent import extent
from models import all_bits, bits
from training_models import BUILD, fit, logits

import lottapack
from lottapack import errors

transformers = pytest.importorskip("transformers")
AUTO = {
    "llama": transformers.AutoModelForCausalLM,
    "gpt2": transformers.AutoModelForCausalLM,
    "vit": transformers.AutoModelForImageClassification,
    "distilbert": transformers.AutoModelForSequenceClassification,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return by name a folder with a pack, as the command writes it, and the pack."""
    from lottapack_cli.app import main

    found = {}
    for name, build in BUILD.items():
        place = tmp_path_factory.mktemp(name)
        pack = place / "trained.lotta.safetensors"
        lottapack.pack(fit(lottapack.scaffold(build(), seed=3, rank=2), name), pack)
        line = ["export", str(pack), "-o", str(place / "folder"), "--format", "transformers-pack", "--quiet"]
        assert main(line) == 0
        found[name] = place / "folder", pack
    return found


@pytest.mark.parametrize("name", BUILD)
def test_from_pretrained_rebuilds_the_merged_model(name, folders):
    folder, pack = folders[name]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.lotta.safetensors"]
    assert (folder / "model.lotta.safetensors").read_bytes() == pack.read_bytes()
    state = torch.get_rng_state()
    model, info = AUTO[name].from_pretrained(folder, output_loading_info=True)
    assert torch.equal(torch.get_rng_state(), state)  # transformers initialised nothing at random
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    merged = lottapack.load(pack, merge=True)
    assert type(model) is type(merged)
    assert all_bits(model) == all_bits(merged)
    assert bits(logits(model, name)) == bits(logits(merged, name))
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", BUILD)
def test_its_own_class_a_dtype_and_a_device_map(name, folders):
    folder, pack = folders[name]
    merged = lottapack.load(pack, merge=True)
    own = type(merged).from_pretrained(folder, dtype=torch.bfloat16, device_map="auto")
    expected = {key: bits(value.to(torch.bfloat16)) for key, value in merged.named_parameters()}
    assert {key: bits(value) for key, value in own.named_parameters()} == expected
    mapped = AUTO[name].from_pretrained(folder, device_map={"": "cpu"}, dtype="auto")
    assert all_bits(mapped) == all_bits(merged)


@pytest.mark.parametrize("base", [False, True])
def test_computed_tensors_have_the_dtype_of_the_pack(base, tmp_path):
    model = BUILD["llama"]().bfloat16()
    model = lottapack.init_backbone_(model, seed=3) if base else lottapack.scaffold(model, seed=3, rank=2)
    lottapack.pack(model, tmp_path / "pack")
    lottapack.export(tmp_path / "pack", tmp_path / "folder", format="transformers-pack")
    for dtype in (None, torch.float32):
        merged = lottapack.load(tmp_path / "pack", merge=True, dtype=dtype)
        opened = AUTO["llama"].from_pretrained(tmp_path / "folder", dtype=dtype or "auto")
        assert opened.model.rotary_emb.inv_freq.dtype == (dtype or torch.bfloat16)
        assert all_bits(opened) == all_bits(merged)
        assert bits(logits(opened, "llama")) == bits(logits(merged, "llama"))
    with pytest.warns(errors.LeftOutWarning, match=r"inv_freq and 1 more: the packed model had it in bfloat16"):
        lottapack.export(tmp_path / "pack", tmp_path / "plain", format="transformers")
    alone = transformers.AutoModel.from_pretrained(tmp_path / "folder")
    assert bits(alone.rotary_emb.inv_freq) == bits(model.model.rotary_emb.inv_freq)


def test_the_command_tells_what_a_plain_folder_cannot_hold(tmp_path, capsys):
    from lottapack_cli.app import main

    model = lottapack.scaffold(BUILD["llama"]().bfloat16(), seed=3, rank=2)
    lottapack.pack(model, tmp_path / "pack")
    line = ["export", str(tmp_path / "pack"), "-o", str(tmp_path / "plain"), "--format", "transformers"]
    assert main([*line, "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "inv_freq" in warning
    assert main([*line[:-1], "transformers-pack", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.parametrize("name", BUILD)
def test_save_pretrained_writes_a_plain_checkpoint(name, folders, tmp_path):
    folder, _ = folders[name]
    model = AUTO[name].from_pretrained(folder)
    model.save_pretrained(tmp_path)
    assert "lottapack" not in (tmp_path / "config.json").read_text()
    assert "transformers_weights" not in json.loads((tmp_path / "config.json").read_text())
    assert all_bits(AUTO[name].from_pretrained(tmp_path)) == all_bits(model)
    fit(model, name, steps=1)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(40)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"unk_token": "w0", "eos_token": "w1", "pad_token": "w2"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **ends)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generation_and_its_pipeline(name, folders, tmp_path):
    folder, pack = folders[name]
    merged = lottapack.load(pack, merge=True)
    given = torch.tensor([[3, 4, 5]])
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 2, "attention_mask": torch.ones_like(given)}
    made = AUTO[name].from_pretrained(folder).generate(given, **options)
    assert torch.equal(made, merged.generate(given, **options))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tokenizer().save_pretrained(tmp_path)
    pipe = transformers.pipeline("text-generation", model=str(tmp_path), device="cpu")
    said = pipe(tokenizer().decode(given[0]), max_new_tokens=5, do_sample=False, return_tensors=True)
    assert said[0]["generated_token_ids"] == made[0].tolist()


def test_a_classification_pipeline(folders, tmp_path):
    folder, pack = folders["distilbert"]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tokenizer().save_pretrained(tmp_path)
    merged = lottapack.load(pack, merge=True)
    said = []
    for model in (str(tmp_path), merged):
        words = transformers.AutoTokenizer.from_pretrained(tmp_path)
        pipe = transformers.pipeline("text-classification", model=model, tokenizer=words, device="cpu", top_k=None)
        said.append(pipe("w3 w4"))
    assert said[0] == said[1]
    assert len(said[0][0]) == 3


def test_a_base_model_and_another_head(folders, caplog):
    folder, pack = folders["llama"]
    merged = lottapack.load(pack, merge=True)
    base = transformers.AutoModel.from_pretrained(folder)
    assert all_bits(base) == {
        key.removeprefix("model."): value for key, value in all_bits(merged).items() if key.startswith("model.")
    }
    other, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True, num_labels=3
    )
    assert info["missing_keys"] == {"score.weight"}
    assert bits(other.model.norm.weight) == bits(merged.model.norm.weight)
    assert other.score.weight.std() > 0


def test_a_folder_made_by_hand_needs_no_name_of_the_pack(folders, tmp_path):
    _, pack = folders["llama"]
    merged = lottapack.load(pack, merge=True)
    merged.config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "lottapack"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(pack, tmp_path / "any.lotta.safetensors")
    assert all_bits(transformers.AutoModelForCausalLM.from_pretrained(tmp_path)) == all_bits(merged)


@pytest.mark.parametrize("first", extent(["lottapack"], ["lottapack", "transformers", "transformers.quantizers.auto"]))
def test_import_lottapack_is_all_it_takes(first, folders):
    """The import order does not matter."""
    folder, _ = folders["gpt2"]
    code = f"import {first}, lottapack, sys\nprint('torch' in sys.modules)\n"
    code += "from transformers import AutoModelForCausalLM\n"
    code += f"print(type(AutoModelForCausalLM.from_pretrained({str(folder)!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split()[-1] == "GPT2LMHeadModel"
    if first == "lottapack":
        assert done.stdout.split()[0] == "False"


def changed(folder, target, **values):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **values}))
    return target


def test_what_does_not_fit_is_refused(folders, tmp_path):
    folder, pack = folders["llama"]
    wider = changed(folder, tmp_path / "wider", intermediate_size=32)
    with pytest.raises(errors.ArchitectureError, match=r"gate_proj.weight has shape \(32, 16\).*but \(24, 16\)"):
        transformers.AutoModelForCausalLM.from_pretrained(wider)
    other = changed(folders["vit"][0], tmp_path / "other")
    shutil.copy(pack, other / "model.lotta.safetensors")
    with pytest.raises(errors.ArchitectureError, match="without any parameter of a ViTForImageClassification"):
        transformers.ViTForImageClassification.from_pretrained(other)
    with pytest.raises(errors.UnsupportedError, match="cannot offload the weights of a pack to disk"):
        transformers.AutoModelForCausalLM.from_pretrained(
            folder, device_map={"": "disk"}, offload_folder=tmp_path / "o"
        )


def test_damaged_packs_are_not_opened(folders, tmp_path):
    folder, pack = folders["llama"]
    damaged = changed(folder, tmp_path / "damaged")
    content = bytearray(pack.read_bytes())
    content[-1] ^= 1
    (damaged / "model.lotta.safetensors").write_bytes(content)
    with pytest.raises(errors.IntegrityError, match="is damaged or was changed"):
        transformers.AutoModelForCausalLM.from_pretrained(damaged)
    (damaged / "model.lotta.safetensors").write_bytes(content[:-1])
    with pytest.raises(errors.ContainerError, match="truncated"):
        transformers.AutoModelForCausalLM.from_pretrained(damaged)


def test_other_models_have_no_such_folder(tmp_path, run):
    model = lottapack.scaffold(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)), seed=1, rank=1)
    lottapack.pack(model, tmp_path / "p")
    result = run("export", tmp_path / "p", "-o", tmp_path / "folder", "--format", "transformers-pack")
    assert (result.code, result.out) == (2, "")
    assert "not a transformers model" in result.err
    assert not (tmp_path / "folder").exists()


def test_a_folder_may_be_of_another_scaffold(tmp_path):
    """from_pretrained rebuilds the exported scaffold; the folder holds the whole pack."""
    pack, folder = tmp_path / "a.lotta.safetensors", tmp_path / "folder"
    lottapack.pack(fit(lottapack.scaffold(BUILD["llama"](), seed=3, rank=2, scaffolds={"task-b": 4}), "llama"), pack)
    lottapack.export(pack, folder, format="transformers-pack", scaffold="task-b")
    assert (folder / "model.lotta.safetensors").read_bytes() == pack.read_bytes()
    model = AUTO["llama"].from_pretrained(folder)
    assert all_bits(model) == all_bits(lottapack.load(pack, merge=True, scaffold="task-b"))
    assert all_bits(model) != all_bits(lottapack.load(pack, merge=True))
    lottapack.export(pack, tmp_path / "default", format="transformers-pack")
    assert "scaffold" not in json.loads((tmp_path / "default" / "config.json").read_text())["quantization_config"]


def test_the_functions_of_lottapack_do_not_take_such_a_folder_for_the_default_scaffold(tmp_path):
    pack, folder = tmp_path / "p.lotta.safetensors", tmp_path / "folder"
    lottapack.pack(fit(lottapack.scaffold(BUILD["llama"](), seed=3, rank=2, scaffolds={"task-b": 4}), "llama"), pack)
    held = lottapack.export(pack, folder, format="transformers-pack", scaffold="task-b")
    for read in (lottapack.load, lottapack.numpy.load, lottapack.verify, lottapack.inspect):
        with pytest.raises(
            lottapack.errors.InvalidReferenceError, match=r"stands for the scaffold 'task-b'.*\n.*`scaffold=task-b`"
        ):
            read(folder)
    assert all_bits(lottapack.load(held, scaffold="task-b")) == all_bits(lottapack.load(pack, scaffold="task-b"))
    lottapack.export(pack, tmp_path / "default", format="transformers-pack")
    assert all_bits(lottapack.load(tmp_path / "default")) == all_bits(lottapack.load(pack))


def test_a_folder_of_a_scaffold_that_the_pack_lacks_is_refused(tmp_path):
    pack, folder = tmp_path / "a.lotta.safetensors", tmp_path / "folder"
    lottapack.pack(fit(lottapack.scaffold(BUILD["llama"](), seed=3, rank=2, scaffolds={"task-b": 4}), "llama"), pack)
    lottapack.export(pack, folder, format="transformers-pack", scaffold="task-b")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["scaffold"] = "task-c"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(errors.ScaffoldError, match="Choose one of default, task-b"):
        AUTO["llama"].from_pretrained(folder)


@pytest.mark.parametrize("fields", [{"scaffold": ["x"]}, {"scaffold": 5}, {"pack": ["x"]}, {"pack": {}}])
def test_names_in_a_configuration_are_texts(fields):
    from lottapack.integrations.transformers import PackConfig

    with pytest.raises(errors.CheckpointError, match="which is not a text"):
        PackConfig(**fields)
