"""GGUF files: read back by transformers with equal weights and tokens, and by the gguf package itself."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import OutputError, UnsupportedError
from lottapack.exporting import gguf as gguf_export
from lottapack.format.descriptor import Architecture
from lottapack.format.packfile import open_pack
from lottapack_cli.app import main

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

TEXTS = [
    "the cat sat on the mat",
    "  two  spaces",
    "It's 12345 o'clock!\n\nNew line",
    "größer 日本 🙂",
    "the</s>cat",
    "",
]


def byte_level():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS * 3 + ["the cat and the hat sat there"], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def with_spaces(prepend=True):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{number:02X}>" for number in range(256)),
        *"▁abcdehilmnorstuw",
        "th",
        "the",
    ]
    tokens += ["▁the", "at", "cat", "▁cat"]
    merges = [("t", "h"), ("th", "e"), ("a", "t"), ("▁", "the"), ("c", "at"), ("▁", "cat")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    strip = decoders.Strip(" ", 1, 0)
    made = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if prepend:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def trained(path, files=None, **options):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 96, "vocab_size": 400, "max_position_embeddings": 64, "tie_word_embeddings": False}
    config = transformers.LlamaConfig(**{**sizes, "bos_token_id": None, "eos_token_id": 1, **options})
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    lottapack.scaffold(model, seed=3, rank=4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    lottapack.pack(model, path, files=files or False)
    return path


def read(file, **options):
    options = {"dtype": torch.float32, **options}
    return transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **options)


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_reads_the_same_weights(tmp_path, tied):
    pack = trained(tmp_path / "m.lotta.safetensors", tie_word_embeddings=tied)
    written = lottapack.export(pack, f"{tmp_path}/out/", format="gguf")
    assert written == tmp_path / "out" / "model.gguf"
    expected, found = lottapack.load(pack, merge=True), read(written)
    plain = found.state_dict()
    assert plain.keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight.view(torch.int32), plain[name].view(torch.int32)), name
    assert found.config.tie_word_embeddings == tied
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.allclose(expected.eval()(tokens).logits, found.eval()(tokens).logits, atol=1e-5)


def test_rope_and_heads_are_those_of_the_model(tmp_path):
    rope = {"rope_theta": 500_000.0, "rope_type": "default"}
    pack = trained(tmp_path / "m.lotta.safetensors", head_dim=32, rope_parameters=rope, rms_norm_eps=1e-5)
    found = read(lottapack.export(pack, tmp_path / "model.gguf", format="gguf"))
    config = found.config
    assert (config.head_dim, config.rope_parameters["rope_theta"], config.max_position_embeddings) == (
        32,
        500_000.0,
        64,
    )
    assert config.rms_norm_eps == pytest.approx(1e-5)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        expected = lottapack.load(pack, merge=True).eval()(tokens).logits
        assert torch.allclose(expected, found.eval()(tokens).logits, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0"])
def test_other_dtypes_are_the_nearest_numbers(tmp_path, dtype):
    pack = trained(tmp_path / "m.lotta.safetensors")
    written = lottapack.export(pack, tmp_path / "model.gguf", format="gguf", dtype=dtype)
    expected, found = lottapack.load(pack, merge=True).state_dict(), read(written).state_dict()
    for name, weight in expected.items():
        if weight.dim() < 2:
            assert torch.equal(weight, found[name])
        elif dtype == "q8_0":
            step = weight.reshape(-1, 32).abs().amax(1, keepdim=True) / 127
            assert ((found[name].reshape(-1, 32) - weight.reshape(-1, 32)).abs() <= step * 0.57).all(), name
        else:
            assert torch.equal(weight.to(getattr(torch, dtype)).float(), found[name]), name
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(written).tensors}
    assert kinds == {"F32", {"float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}[dtype]}


def with_metaspace():
    return with_spaces(prepend=False)


@pytest.mark.parametrize("make", [byte_level, with_spaces, with_metaspace])
def test_the_tokenizer_gives_the_same_tokens(tmp_path, make):
    tokenizer = make()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    pack = trained(tmp_path / "m.lotta.safetensors", tokenizer, **ends)
    written = lottapack.export(pack, tmp_path / "model.gguf", format="gguf", dtype="q8_0")
    found = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=written.name)
    # GGUF does not say where a space is added. llama.cpp adds one before spaces and after special tokens too, as
    # Prepend does; transformers' reader of GGUF does not.
    for text in [text for text in TEXTS if make is not with_spaces or not (text.startswith(" ") or "</s>" in text)]:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found(text, add_special_tokens=False)["input_ids"] == expected, text
        assert found.decode(expected) == tokenizer.decode(expected)
    assert (found.bos_token, found.eos_token) == ("<s>", "</s>")
    fields = gguf.GGUFReader(written).fields
    assert len(fields["tokenizer.ggml.tokens"].data) == 400
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False


def test_tokenizers_without_a_name_in_gguf_are_refused(tmp_path):
    from tokenizers import Regex, pre_tokenizers

    other = pre_tokenizers.Split(Regex("a"), "isolated")
    for split, said in (
        (pre_tokenizers.ByteLevel(add_prefix_space=True), "add a space"),
        (pre_tokenizers.Whitespace(), "does not have a name"),
        (pre_tokenizers.Sequence([other, pre_tokenizers.ByteLevel(add_prefix_space=False)]), "does not have a name"),
    ):
        tokenizer = byte_level()
        tokenizer.backend_tokenizer.pre_tokenizer = split
        pack = trained(tmp_path / "m.lotta.safetensors", tokenizer)
        with pytest.raises(UnsupportedError, match=said):
            lottapack.export(pack, tmp_path / "model.gguf", format="gguf")
    assert not (tmp_path / "model.gguf").exists()


def changed(make, **of_the_model):
    """Return a tokenizer with other fields of its BPE model."""
    from tokenizers import Tokenizer

    text = json.loads(make().backend_tokenizer.to_str())
    text["model"] |= of_the_model
    made = Tokenizer.from_str(json.dumps(text))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def vocabulary(make, *more):
    model = json.loads(make().backend_tokenizer.to_str())["model"]
    return model["vocab"] | {text: len(model["vocab"]) + number for number, text in enumerate(more)}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: changed(byte_level, end_of_word_suffix="</w>"), "the end of words"),
        (lambda: changed(byte_level, continuing_subword_prefix="##", merges=[]), "the inside"),
        (lambda: changed(byte_level, ignore_merges=True, vocab=vocabulary(byte_level, "zqz")), "token 'zqz' does not"),
        (lambda: changed(with_spaces, vocab=vocabulary(with_spaces, "the▁")), "token 'the▁' does not"),
    ],
)
def test_tokenizers_that_gguf_would_read_otherwise_are_refused(tmp_path, make, said):
    pack = trained(tmp_path / "m.lotta.safetensors", make())
    with pytest.raises(UnsupportedError, match=said):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


def test_tokens_that_merges_do_not_make_are_kept_where_both_leave_them(tmp_path):
    tokenizer = changed(byte_level, vocab=vocabulary(byte_level, "zqz"))
    pack = trained(tmp_path / "m.lotta.safetensors", tokenizer)
    lottapack.export(pack, tmp_path / "model.gguf", format="gguf")
    found = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert found("zqz")["input_ids"] == tokenizer("zqz")["input_ids"]


def around(single, **ids):
    from tokenizers import processors

    tokenizer = byte_level()
    made = processors.TemplateProcessing(single=single, special_tokens=list(ids.items()))
    tokenizer.backend_tokenizer.post_processor = made
    return tokenizer


@pytest.mark.parametrize(
    ("single", "bos", "eos"), [("b $A", True, False), ("$A e", False, True), ("b $A e", True, True)]
)
def test_tokens_around_a_text_are_carried(tmp_path, single, bos, eos):
    pack = trained(tmp_path / "m.lotta.safetensors", around(single, b=0, e=1))
    fields = gguf.GGUFReader(lottapack.export(pack, tmp_path / "model.gguf", format="gguf")).fields

    def value(name):
        return fields[f"tokenizer.ggml.{name}"].contents() if f"tokenizer.ggml.{name}" in fields else None

    assert (value("add_bos_token"), value("add_eos_token")) == (bos, eos or None)
    assert (value("bos_token_id"), value("eos_token_id")) == (0 if bos else None, 1)


@pytest.mark.parametrize(
    ("single", "said"), [("b b $A", "adds others"), ("$A $A", "adds others"), ("x $A", "adds the token 2 as bos")]
)
def test_other_tokens_around_a_text_are_refused(tmp_path, single, said):
    pack = trained(tmp_path / "m.lotta.safetensors", around(single, b=0, x=2), bos_token_id=0)
    with pytest.raises(UnsupportedError, match=said):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


def test_several_tokens_that_end_a_text_are_carried(tmp_path):
    pack = trained(tmp_path / "m.lotta.safetensors", byte_level(), eos_token_id=[1, 5, 7])
    fields = gguf.GGUFReader(lottapack.export(pack, tmp_path / "model.gguf", format="gguf")).fields
    assert [fields[f"tokenizer.ggml.{name}_token_id"].contents() for name in ("eos", "eot", "eom")] == [1, 5, 7]
    pack = trained(tmp_path / "m.lotta.safetensors", byte_level(), eos_token_id=[1, 5, 7, 9])
    with pytest.raises(UnsupportedError, match="tokens that end a text"):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"eos_token_id": None}, "eos_token_id is missing"),
        ({"eos_token_id": []}, "eos_token_id is missing"),
        ({"eos_token_id": 400}, "eos_token_id 400 is not one of its 400 tokens"),
        ({"eos_token_id": [1, -1]}, "eot_token_id -1 is not one"),
        ({"pad_token_id": -1}, "pad_token_id -1 is not one"),
    ],
)
def test_special_tokens_that_a_reader_would_replace_are_refused(tmp_path, ids, said):
    pack = trained(tmp_path / "m.lotta.safetensors", byte_level(), **ids)
    with pytest.raises(UnsupportedError, match=said):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


def test_a_token_that_looks_around_is_refused(tmp_path):
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"mask_token": transformers.AddedToken("<mask>", lstrip=True, special=True)})
    pack = trained(tmp_path / "m.lotta.safetensors", tokenizer)
    with pytest.raises(UnsupportedError, match="'<mask>' anywhere"):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


def test_layers_that_share_a_weight_are_both_written(tmp_path):
    path = tmp_path / "m.lotta.safetensors"
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=400, **sizes))
    first, second = model.model.layers
    second.mlp.up_proj.weight = first.mlp.up_proj.weight
    second.self_attn.q_proj.weight = first.self_attn.q_proj.weight
    lottapack.scaffold(model, seed=3, rank=4, targets=["*down_proj"])
    lottapack.pack(model, path)
    found = read(lottapack.export(path, tmp_path / "model.gguf", format="gguf")).state_dict()
    for name, weight in lottapack.numpy.load(path).items():
        assert np.array_equal(weight.view(np.uint32), found[name].numpy().view(np.uint32)), name


def test_weights_of_another_dtype_are_refused(tmp_path):
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                                 vocab_size=64)
    )  # fmt: skip
    lottapack.scaffold(model, seed=3, rank=1, targets=["*q_proj"])
    model.lm_head.double()
    lottapack.pack(model, tmp_path / "m.lotta.safetensors")
    with pytest.raises(UnsupportedError, match="float64, as lm_head"):
        lottapack.export(tmp_path / "m.lotta.safetensors", tmp_path / "model.gguf", format="gguf")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attention_bias": True}, "attention_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type='linear'"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
            "rope_type='yarn'",
        ),
    ],
)
def test_other_llamas_are_refused(tmp_path, options, said):
    pack = trained(tmp_path / "m.lotta.safetensors", **options)
    with pytest.raises(UnsupportedError, match=said):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type="),
        ({"rope_parameters": {"type": "linear", "factor": 2.0}}, "rope_type='linear'"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"num_attention_heads": "4"}, "num_attention_heads='4'"),
        ({"num_key_value_heads": True}, "num_key_value_heads=True"),
        ({"head_dim": -2}, "head_dim=-2"),
        ({"rms_norm_eps": None}, "rms_norm_eps=None"),
        ({"max_position_embeddings": None}, "max_position_embeddings=None"),
        (
            {"num_attention_heads": 2, "head_dim": 16},
            r"shape of model.layers.0.self_attn.o_proj.weight: \(64, 64\), in .*: \(64, 32\)",
        ),
        ({"num_hidden_layers": 1}, r"shape of model.layers.1.*, in a Llama of this configuration: none"),
        ({"num_hidden_layers": 3}, r"shape of model.layers.2.*: none, in a Llama"),
        ({"num_hidden_layers": 10**9}, "of this configuration: none"),
        ({"vocab_size": 399}, r"shape of lm_head.weight: \(400, 64\), in .*: \(399, 64\)"),
    ],
)
def test_a_configuration_of_another_model_is_refused(tmp_path, monkeypatch, options, said):
    """A pack can say one thing and hold another; a reader of GGUF would believe the first."""
    pack = trained(tmp_path / "m.lotta.safetensors")
    config = Architecture.config.fget
    monkeypatch.setattr(Architecture, "config", property(lambda own: config(own) | options))
    with pytest.raises(UnsupportedError, match=said):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_odd_fields_of_a_configuration_are_named(tmp_path, monkeypatch):
    pack = trained(tmp_path / "m.lotta.safetensors")
    config = Architecture.config.fget
    odd = [
        ("head_dim", 5, "head_dim=5"),
        ("num_key_value_heads", 3, "num_key_value_heads=3"),
        ("num_key_value_heads", True, "num_key_value_heads=True"),
        ("max_position_embeddings", 2**40, "max_position_embeddings=1099511627776"),
        ("max_position_embeddings", -1, "max_position_embeddings=-1"),
        ("rms_norm_eps", "x" * 1000, "rms_norm_eps='x"),
        ("rms_norm_eps", -1e-6, "rms_norm_eps=-1e-06"),
        ("hidden_act", ["silu"], "hidden_act="),
        ("rope_parameters", [1], "rope_parameters="),
        ("rope_parameters", "default", "rope_parameters='default'"),
        ("rope_parameters", {"rope_theta": "x"}, "rope_theta='x'"),
        ("rope_parameters", {"rope_theta": -1.0}, "rope_theta=-1.0"),
        ("rope_parameters", {"rope_theta": 1e4, "rope_type": ["default"]}, "rope_type="),
        ("rope_scaling", {"type": "linear"}, "rope_type='default'"),
    ]
    for field, value, said in odd:
        monkeypatch.setattr(Architecture, "config", property(lambda own, more={field: value}: config(own) | more))
        with pytest.raises(UnsupportedError) as caught:
            lottapack.export(pack, tmp_path / "model.gguf", format="gguf")
        assert said in str(caught.value) and len(str(caught.value)) < 500
    assert not (tmp_path / "model.gguf").exists()


def test_a_missing_output_is_not_tied_in_silence(tmp_path):
    """GGUF's reader ties the output to the embedding if the file lacks it."""
    pack = trained(tmp_path / "m.lotta.safetensors")
    with open_pack(pack) as opened:
        del opened.descriptor.parameters["lm_head.weight"]
        with pytest.raises(UnsupportedError, match=r"shape of lm_head\.weight: none"):
            gguf_export.write(opened, tmp_path / "model.gguf", None, None, None)


def test_other_architectures_and_options_are_refused(tmp_path, capsys):
    model = nn.Sequential(nn.Linear(4, 4))
    lottapack.scaffold(model, seed=1, rank=1, targets="*")
    lottapack.pack(model, tmp_path / "m.lotta.safetensors")
    with pytest.raises(UnsupportedError, match="cannot write a Sequential as GGUF"):
        lottapack.export(tmp_path / "m.lotta.safetensors", tmp_path / "model.gguf", format="gguf")
    pack = trained(tmp_path / "l.lotta.safetensors")
    with pytest.raises(UnsupportedError, match="does not use `max_shard_size`"):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf", max_shard_size="1MB")
    with pytest.raises(UnsupportedError, match="q8_0") as caught:
        lottapack.export(pack, tmp_path / "model.safetensors", dtype="q8_0")
    assert caught.value.hint.startswith('Only GGUF has this type: pass `format="gguf"` to export()')
    assert main(["export", str(pack), "-o", str(tmp_path / "model.safetensors"), "--dtype", "q8_0"]) == 2
    assert "Only GGUF has this type: pass --format gguf" in capsys.readouterr().err
    with pytest.raises(UnsupportedError, match="float64"):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf", dtype="float64")


def test_the_command_writes_the_same_file(tmp_path, capsys):
    pack = trained(tmp_path / "m.lotta.safetensors")
    one = lottapack.export(pack, tmp_path / "one.gguf", format="gguf", dtype="q8_0")
    command = ["export", str(pack), "-o", str(tmp_path / "two.gguf"), "--format", "gguf", "--dtype", "Q8_0", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["size"] == one.stat().st_size
    assert np.array_equal(np.fromfile(one, np.uint8), np.fromfile(tmp_path / "two.gguf", np.uint8))


def model_with(**fields):
    return lambda text: json.dumps(text | {"model": text["model"] | fields})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "[" * 100_000, "RecursionError"),
        (lambda text: "[]", "TypeError"),
        (lambda text: "\ud800", "JSONDecodeError"),
        (model_with(vocab={"a": 0, "b": 0}), "two tokens have one number"),
        (model_with(vocab={"a": 0, "b": -1}), "number is not one"),
        (model_with(vocab={"a": 0, "b": 1.5}), "number is not one"),
        (model_with(vocab={"a": 0, "b": True}), "number is not one"),
        (model_with(vocab={"a": 0, "b": 10**30}), "but the model 400"),
        (model_with(vocab=[]), "AttributeError"),
        (model_with(merges=[["a b", "c"]]), "two tokens without spaces"),
        (model_with(merges=["a b c"]), "two tokens without spaces"),
        (model_with(merges=["a"]), "two tokens without spaces"),
        (model_with(merges=[5]), "TypeError"),
        (model_with(unk_token=[]), "TypeError"),
    ],
)
def test_hostile_tokenizers_are_one_error(tmp_path, change, said):
    (tmp_path / "files").mkdir()
    text = change(json.loads(byte_level().backend_tokenizer.to_str()))
    (tmp_path / "files" / "tokenizer.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 8)), seed=1, rank=2)
    lottapack.pack(model, tmp_path / "m.lotta.safetensors", files=tmp_path / "files")
    with open_pack(tmp_path / "m.lotta.safetensors") as pack, pytest.raises(UnsupportedError, match=said):
        gguf_export.gguf_tokenizer.read(pack, {"vocab_size": 400, "eos_token_id": 1})


@pytest.mark.parametrize("output", ["file/x", "file/x/", "file/x/y.gguf"])
def test_a_folder_that_cannot_be_made_is_one_error(output, tmp_path):
    trained(tmp_path / "a.lotta.safetensors")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot write"):
        lottapack.export(tmp_path / "a.lotta.safetensors", f"{tmp_path}/{output}", format="gguf")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_is_no_text_is_written_as_text(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.lotta.safetensors"))
    trained(path)
    assert lottapack.export(path, tmp_path / "a.gguf", format="gguf").is_file()
