"""GGUF files: read back by transformers with equal weights and tokens, and by the gguf package itself."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import UnsupportedError
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
    config = transformers.LlamaConfig(**{**sizes, "bos_token_id": None, "eos_token_id": None, **options})
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attention_bias": True}, "attention_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type='linear'"),
    ],
)
def test_other_llamas_are_refused(tmp_path, options, said):
    pack = trained(tmp_path / "m.lotta.safetensors", **options)
    with pytest.raises(UnsupportedError, match=said):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf")


def test_other_architectures_and_options_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    lottapack.scaffold(model, seed=1, rank=1, targets="*")
    lottapack.pack(model, tmp_path / "m.lotta.safetensors")
    with pytest.raises(UnsupportedError, match="cannot write a Sequential as GGUF"):
        lottapack.export(tmp_path / "m.lotta.safetensors", tmp_path / "model.gguf", format="gguf")
    pack = trained(tmp_path / "l.lotta.safetensors")
    with pytest.raises(UnsupportedError, match="in one piece"):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf", max_shard_size="1MB")
    with pytest.raises(UnsupportedError, match="q8_0"):
        lottapack.export(pack, tmp_path / "model.safetensors", dtype="q8_0")
    with pytest.raises(UnsupportedError, match="float64"):
        lottapack.export(pack, tmp_path / "model.gguf", format="gguf", dtype="float64")


def test_the_command_writes_the_same_file(tmp_path, capsys):
    pack = trained(tmp_path / "m.lotta.safetensors")
    one = lottapack.export(pack, tmp_path / "one.gguf", format="gguf", dtype="q8_0")
    command = ["export", str(pack), "-o", str(tmp_path / "two.gguf"), "--format", "gguf", "--dtype", "Q8_0", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["size"] == one.stat().st_size
    assert np.array_equal(np.fromfile(one, np.uint8), np.fromfile(tmp_path / "two.gguf", np.uint8))
