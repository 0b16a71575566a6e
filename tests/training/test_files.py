"""The tokenizer, chat template, processor and generation_config of a model travel inside its pack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import mlp, tied_llama
from training_models import BUILD

import lottapack
from lottapack.errors import CheckpointError, LeftOutWarning, LottapackError, OutputError, UnsupportedError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
S = ".lotta.safetensors"
TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def tokenizer(size=32):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="w0", eos_token="w1", pad_token="w2", bos_token="w3"
    )
    made.chat_template = {"default": TEMPLATE, "tool_use": TEMPLATE + "!"}
    return made


def scaffolded(seed=1):
    model = lottapack.scaffold(tied_llama(), seed=seed, rank=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
    model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id = 2, 3, 1
    return model


def unchanged():
    """A model whose configuration holds generation settings."""
    return lottapack.scaffold(tied_llama(), seed=1, rank=1)


@pytest.fixture
def checkpoint(tmp_path):
    """Write a folder as a trainer leaves it: model, tokenizer, and private files."""
    folder = tmp_path / "checkpoint-5"
    model = scaffolded()
    model.generation_config.eos_token_id = [1, 7]
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json", "tokenization_own.py", "README.md"):
        (folder / name).write_text("private")
    return folder


TAKEN = {
    "additional_chat_templates/tool_use.jinja",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
LEFT = ("README.md", "optimizer.pt", "tokenization_own.py", "trainer_state.json", "training_args.bin")


def test_a_folder_is_packed_with_its_tokenizer(checkpoint, tmp_path, run):
    path = tmp_path / f"a{S}"
    done = run("pack", checkpoint, "-o", path)
    assert (done.code, done.err) == (0, "")
    result = lottapack.pack(checkpoint, path)
    assert result.files.keys() == TAKEN
    assert result.files["tokenizer.json"] == (checkpoint / "tokenizer.json").stat().st_size
    assert result.files_left == LEFT
    assert all(name in done.out for name in (*TAKEN, *LEFT))
    assert lottapack.inspect(path).files == result.files
    assert b"private" not in path.read_bytes()
    assert all(name in run("inspect", path).out for name in TAKEN)
    report = lottapack.report(path)
    assert sum(report.by_role.values()) == sum(report.by_group.values()) == report.size
    assert 0 < report.by_role["files"] < sum(result.files.values())
    checked = {(check.what, check.where) for check in lottapack.verify(path).checks if check.status == "ok"}
    assert ("sha256", "lottapack.files.generation_config.json.codes") in checked
    assert ("coding", 'files["tokenizer.json"]') in checked


@pytest.mark.parametrize("form", ["transformers", "transformers-pack"])
def test_exports_open_as_a_pipeline(form, checkpoint, tmp_path):
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    lottapack.export(tmp_path / f"a{S}", tmp_path / "out", format=form)
    for name in TAKEN - {"generation_config.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (checkpoint / name).read_bytes()
    assert not any((tmp_path / "out" / name).exists() for name in ("training_args.bin", "optimizer.pt"))
    pipe = transformers.pipeline("text-generation", str(tmp_path / "out"), device="cpu")
    assert pipe.model.generation_config.eos_token_id == [1, 7]
    assert pipe.tokenizer.apply_chat_template([{"role": "user", "content": "w5"}], tokenize=False) == "w5 "
    assert pipe.tokenizer.get_chat_template("tool_use") == TEMPLATE + "!"
    said = pipe("w5 w6", max_new_tokens=4, do_sample=False, return_tensors=True)[0]["generated_token_ids"]
    due = lottapack.load(tmp_path / f"a{S}", merge=True)
    given = torch.tensor([tokenizer()("w5 w6")["input_ids"]])
    assert said == due.generate(given, max_new_tokens=4, do_sample=False)[0].tolist()


def test_what_a_model_generates_comes_back(tmp_path):
    model = scaffolded()
    given = torch.arange(4)[None] + 4
    first = model.generate(given, max_new_tokens=8, do_sample=False)
    model.generation_config.eos_token_id = [first[0, 5].item()]
    model.generation_config.repetition_penalty = 1.5
    stopped = model.generate(given, max_new_tokens=8, do_sample=False)
    model.save_pretrained(tmp_path / "saved")
    lottapack.pack(model, tmp_path / f"a{S}")
    lottapack.pack(tmp_path / "saved", tmp_path / f"b{S}")
    assert (tmp_path / f"a{S}").read_bytes() == (tmp_path / f"b{S}").read_bytes()
    for merge in (False, True):
        loaded = lottapack.load(tmp_path / f"a{S}", merge=merge)
        assert loaded.generation_config.repetition_penalty == 1.5
        assert torch.equal(loaded.generate(given, max_new_tokens=8, do_sample=False), stopped)


@pytest.mark.parametrize("name", BUILD)
def test_a_model_that_changed_nothing_has_no_file(name, tmp_path):
    model = lottapack.scaffold(BUILD[name](), seed=1, rank=2)
    assert lottapack.pack(model, tmp_path / f"a{S}").files == {}


def test_a_loaded_model_packs_to_the_same_file(checkpoint, tmp_path):
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    loaded = lottapack.load(tmp_path / f"a{S}")
    (tmp_path / f"a{S}").rename(tmp_path / f"moved{S}")
    lottapack.pack(loaded, tmp_path / f"b{S}")
    assert (tmp_path / f"b{S}").read_bytes() == (tmp_path / f"moved{S}").read_bytes()


def test_files_can_be_named_and_left_out(checkpoint, tmp_path, run):
    model, path = unchanged(), tmp_path / f"a{S}"
    tokenizer().save_pretrained(tmp_path / "words")
    taken = TAKEN - {"generation_config.json"}
    assert lottapack.pack(model, path).files == {}
    assert lottapack.pack(model, path, files=tmp_path / "words").files.keys() == taken
    named = path.read_bytes()
    lottapack.pack(model, path, files=tokenizer())
    assert path.read_bytes() == named
    lottapack.pack(model, path, files=[tokenizer()])
    assert path.read_bytes() == named
    assert lottapack.pack(checkpoint, path, files=False).files == {}
    without = path.read_bytes()
    assert run("pack", checkpoint, "-o", path, "--no-files").code == 0
    assert path.read_bytes() == without
    assert run("pack", checkpoint, "-o", path, "--files", tmp_path / "words").code == 0
    assert lottapack.inspect(path).files.keys() == TAKEN  # the checkpoint keeps its own generation settings
    assert run("pack", checkpoint, "-o", path, "--files", tmp_path / "words", "--no-files").code == 2
    for wrong in (tmp_path / "absent", 3, model, [tmp_path]):
        with pytest.raises(CheckpointError, match="files="):
            lottapack.pack(scaffolded(), path, files=wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="does not contain a file that a pack can store"):
        lottapack.pack(scaffolded(), path, files=tmp_path / "empty")


def test_what_was_set_on_a_tokenizer_is_packed(tmp_path):
    """transformers saves only those of these settings that the constructor was given."""
    due = {"padding_side": "left", "truncation_side": "left", "split_special_tokens": True}
    due |= {"model_input_names": ["input_ids"], "clean_up_tokenization_spaces": True}
    words = tokenizer()
    for name, value in due.items():
        setattr(words, name, value)
    lottapack.pack(unchanged(), tmp_path / f"a{S}", files=words)
    lottapack.export(tmp_path / f"a{S}", tmp_path / "words", format="files")
    opened = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "words")
    assert {name: getattr(opened, name) for name in due} == due
    texts = ["w5 w6 w7 w1", "w8"]
    assert dict(opened(texts, padding=True)) == dict(words(texts, padding=True))


class Saving:
    """Saves files of these names and texts, as a processor does."""

    def __init__(self, **files):
        self.files = files

    def save_pretrained(self, folder):
        for name, text in self.files.items():
            path = Path(folder) / name.replace("__", "/").replace("_json", ".json")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def templates(**more):
    made = tokenizer()
    made.chat_template = {"default": TEMPLATE, **more}
    return made


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (lambda: templates(RAG="x"), "additional_chat_templates/RAG.jinja, which a pack cannot hold"),
        (lambda: [tokenizer(), tokenizer(33)], r"two of the objects save a tokenizer\.json, and these differ"),
        (lambda: transformers.GenerationConfig(max_length=9), "does not save a file that belongs to a tokenizer"),
        (lambda: [tokenizer(), Saving()], "the Saving does not save a file"),
        (lambda: Saving(vocab_json="{}", own_words="x"), "saves own_words, which a pack cannot hold"),
        (lambda: Saving(vocab_json="{}", other_tokenizer__vocab_json="{}"), "saves other_tokenizer/vocab.json, which"),
        (lambda: transformers.PreTrainedTokenizerFast, "is not a folder, a tokenizer or a processor"),
    ],
)
def test_objects_that_a_pack_cannot_hold_whole_are_refused(files, said, tmp_path):
    with pytest.raises(CheckpointError, match=f"files.*{said}"):
        lottapack.pack(unchanged(), tmp_path / f"a{S}", files=files())
    assert not (tmp_path / f"a{S}").exists()


def test_a_processor_and_its_tokenizer_save_one_configuration(tmp_path):
    files = [Saving(tokenizer_config_json='{"a": 1}'), Saving(tokenizer_config_json='{"processor_class": "X", "a": 1}')]
    assert lottapack.pack(unchanged(), tmp_path / f"a{S}", files=files).files.keys() == {"tokenizer_config.json"}


def test_parts_of_a_folder_that_a_pack_has_no_room_for_are_named(checkpoint, tmp_path):
    tokenizer().save_pretrained(checkpoint / "qformer_tokenizer")
    tokenizer().save_pretrained(checkpoint / "checkpoint-2")
    with pytest.warns(LeftOutWarning, match="does not hold qformer_tokenizer of"):
        left = lottapack.pack(checkpoint, tmp_path / f"a{S}").files_left
    assert "qformer_tokenizer/tokenizer.json" in left
    assert not any(name.startswith("checkpoint-2") for name in left)


def test_a_sentence_transformer_is_more_than_its_pack(checkpoint, tmp_path):
    (checkpoint / "modules.json").write_text("[]")
    (checkpoint / "1_Pooling").mkdir()
    (checkpoint / "1_Pooling" / "config.json").write_text("{}")
    with pytest.warns(LeftOutWarning, match="its first module alone"):
        left = lottapack.pack(checkpoint, tmp_path / f"a{S}").files_left
    assert {"modules.json", "1_Pooling/config.json"} <= set(left)


def test_settings_that_no_reader_takes_are_not_written(tmp_path):
    model = scaffolded()
    model.generation_config.compile_config = transformers.CompileConfig()
    model.generation_config.max_length = 9
    lottapack.pack(model, tmp_path / f"a{S}")
    assert lottapack.load(tmp_path / f"a{S}").generation_config.max_length == 9
    model.generation_config._own = 1
    with pytest.raises(CheckpointError, match=r"model\.generation_config cannot be packed: .*'_own'"):
        lottapack.pack(model, tmp_path / f"b{S}")


def test_files_are_written_alone_and_over_nothing(checkpoint, tmp_path, run):
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    assert run("export", tmp_path / f"a{S}", "-o", tmp_path / "words", "--format", "files").code == 0
    names = {path.relative_to(tmp_path / "words").as_posix() for path in (tmp_path / "words").rglob("*.*")}
    assert names == TAKEN
    lottapack.export(tmp_path / f"a{S}", tmp_path / "words", format="files")  # the same again
    (tmp_path / "words" / "tokenizer.json").write_text("mine")
    for form in ("files", "transformers", "transformers-pack"):
        with pytest.raises(OutputError, match=r"tokenizer.json is there already"):
            lottapack.export(tmp_path / f"a{S}", tmp_path / "words", format=form)
    assert (tmp_path / "words" / "tokenizer.json").read_text() == "mine"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), tmp_path / f"plain{S}")
    with pytest.raises(UnsupportedError, match="does not contain files"):
        lottapack.export(tmp_path / f"plain{S}", tmp_path / "none", format="files")


def test_another_models_way_of_generating_does_not_stay_in_a_folder(checkpoint, tmp_path):
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    lottapack.pack(unchanged(), tmp_path / f"b{S}")
    for form in ("transformers", "transformers-pack"):
        lottapack.export(tmp_path / f"a{S}", tmp_path / form, format=form)
        assert (tmp_path / form / "generation_config.json").exists()
        lottapack.export(tmp_path / f"b{S}", tmp_path / form, format=form)
        assert not (tmp_path / form / "generation_config.json").exists()


def test_run_takes_the_packs_own_tokenizer(checkpoint, tmp_path, run):
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    done = run("run", tmp_path / f"a{S}", "--prompt", "w5 w6", "--tokens-max", "3")
    if done.code == 2:
        done = run("run", tmp_path / f"a{S}", "--prompt", "w5 w6")
    assert done.code == 0, done.err
    assert "w" in done.out


def test_code_that_a_tokenizer_names_is_never_run(checkpoint, tmp_path):
    told = json.loads((checkpoint / "tokenizer_config.json").read_text())
    told |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(told))
    (checkpoint / "tokenization_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    lottapack.load(tmp_path / f"a{S}")
    lottapack.export(tmp_path / f"a{S}", tmp_path / "out", format="transformers")
    assert not (tmp_path / "out" / "tokenization_own.py").exists()
    with pytest.raises(LottapackError):
        from lottapack.running import run

        run(tmp_path / f"a{S}", prompt="w5")
    assert not (tmp_path / "ran").exists()


SPLIT = {
    "version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False},
}  # fmt: skip
WORDS = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "[" * 200_000),
        ("tokenizer.json", "null"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", json.dumps(SPLIT)),
        ("tokenizer.json", json.dumps(WORDS)),
        ("tokenizer_config.json", "[" * 200_000),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"tokenizer_class": "../../own"}'),
        ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": "other/repo--own.Own"}}'),
    ],
)
def test_a_hostile_tokenizer_is_one_error(name, text, checkpoint, tmp_path):
    """The libraries raise anything for files that they do not expect, at opening or at the first text."""
    for other in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (checkpoint / other).unlink(missing_ok=True)
    (checkpoint / name).write_text(text)
    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    with pytest.raises(LottapackError) as caught:
        lottapack.run(tmp_path / f"a{S}", prompt="w5 w6")
    assert caught.value.hint and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "as JSON"),
        ("[]", "not an object"),
        ('{"trust_remote_code": true}', "'trust_remote_code'"),
        ('{"_private": 1}', "'_private'"),
    ],
)
def test_a_generation_config_of_something_else_is_refused(text, said, checkpoint, tmp_path):
    (checkpoint / "generation_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        lottapack.pack(checkpoint, tmp_path / f"a{S}")
    lottapack.pack(checkpoint, tmp_path / f"a{S}", files=False)


def test_links_out_of_the_folder_are_refused(checkpoint, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (checkpoint / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        lottapack.pack(checkpoint, tmp_path / f"a{S}")


def test_an_adapter_brings_its_tokenizer_task_and_dropout(tmp_path):
    peft = pytest.importorskip("peft")
    base = lottapack.init_backbone_(tied_llama(), seed=5)
    options = {"r": 2, "target_modules": ["q_proj"], "lora_dropout": 0.25, "task_type": "FEATURE_EXTRACTION"}
    model = peft.get_peft_model(base, peft.LoraConfig(**options))
    base.config.pad_token_id = 2  # after drawing the base, as a trainer does
    base.generation_config.eos_token_id = [1, 7]
    model.save_pretrained(tmp_path / "saved")
    tokenizer().save_pretrained(tmp_path / "saved")
    result = lottapack.pack(tmp_path / "saved", tmp_path / f"a{S}")
    assert result.files.keys() == TAKEN | {"adapter_config.json"}
    loaded = lottapack.load(tmp_path / f"a{S}")
    assert (loaded.config.pad_token_id, loaded.generation_config.eos_token_id) == (2, [1, 7])
    lottapack.export(tmp_path / f"a{S}", tmp_path / "out", format="peft")
    config = peft.PeftConfig.from_pretrained(tmp_path / "out")
    assert (config.task_type, config.lora_dropout) == ("FEATURE_EXTRACTION", 0.25)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out").pad_token_id == 2
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "base")
    assert (opened.config.pad_token_id, opened.generation_config.eos_token_id) == (2, [1, 7])
    lottapack.pack(tmp_path / "out", tmp_path / f"b{S}")
    assert (tmp_path / f"b{S}").read_bytes() == (tmp_path / f"a{S}").read_bytes()
    lottapack.export(tmp_path / f"a{S}", tmp_path / "plain", format="transformers")
    assert not (tmp_path / "plain" / "adapter_config.json").exists()  # it would turn the folder into an adapter


def test_other_ways_of_packing_take_files_too(tmp_path):
    torch.manual_seed(3)
    model = tied_llama()
    model.save_pretrained(tmp_path / "drawn")
    tokenizer().save_pretrained(tmp_path / "drawn")
    result = lottapack.pack(lottapack.recover.torch_cpu(tmp_path / "drawn", seed=3), tmp_path / f"a{S}")
    assert result.files.keys() == TAKEN - {"generation_config.json"}
    merged = lottapack.scaffold(tied_llama(), seed=1, rank=1)
    lottapack.pack(merged, tmp_path / f"m{S}", files=tokenizer())
    lottapack.export(tmp_path / f"m{S}", tmp_path / "merged", format="transformers")
    result = lottapack.pack(lottapack.recover.merged(tmp_path / "merged", seed=1, max_rank=2), tmp_path / f"b{S}")
    assert result.files.keys() == TAKEN - {"generation_config.json"}


PIPELINE = """
import sys
from transformers import pipeline
pipe = pipeline("text-generation", sys.argv[1], device="cpu")
print("w5 w6", pipe("w5 w6", max_new_tokens=4, do_sample=False, return_full_text=False)[0]["generated_text"])
assert "lottapack" not in sys.modules
"""


def test_after_a_pull_a_pipeline_needs_no_other_download(checkpoint, tmp_path):
    """Use the real command and a real server on this machine; the pipeline's process does not know them."""
    from lottapack_serve import background

    lottapack.pack(checkpoint, tmp_path / f"a{S}")
    with background(tmp_path / "registry") as running:
        home = {**os.environ, "HF_ENDPOINT": running.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}

        def command(*words: object, **more: str) -> str:
            line = [sys.executable, *map(str, words)]
            return subprocess.run(line, check=True, capture_output=True, text=True, env={**home, **more}).stdout

        command("-m", "lottapack_cli", "push", tmp_path / f"a{S}", "org/model")
        command("-m", "lottapack_cli", "pull", "org/model", "--export", tmp_path / "folder")
        pulled = next(Path(home["HF_HOME"]).rglob(f"*{S}"))
        assert pulled.read_bytes() == (tmp_path / f"a{S}").read_bytes()
    said = command("-c", PIPELINE, tmp_path / "folder", HF_HUB_OFFLINE="1")
    due = lottapack.load(tmp_path / f"a{S}", merge=True)
    given = torch.tensor([tokenizer()("w5 w6")["input_ids"]])
    made = due.generate(given, max_new_tokens=4, do_sample=False)[0]
    assert said.split() == tokenizer().decode(made, skip_special_tokens=True).split()
