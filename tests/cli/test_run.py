"""``lottapack run``: tokens of a language model, outputs of other models, materialised and virtual."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import Files, Run
from safetensors.torch import load_file, save_file
from test_errors import refused
from torch import nn

import lottapack

WORDS = [f"w{number}" for number in range(32)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small Llama with sign1 weights and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, tie_word_embeddings=True, eos_token_id=None, **shape))
    lottapack.pack(lottapack.scaffold(model, seed=3, rank=2, distribution="sign1"), folder / "llama.lotta.safetensors")
    tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="w0").save_pretrained(folder)
    return folder / "llama.lotta.safetensors"


@pytest.mark.parametrize("backbone", [None, "materialised", "virtual", "blocks"])
def test_a_language_model_writes_the_tokens_of_its_model(llama: Path, run: Run, backbone: str | None) -> None:
    options = [] if backbone is None else ["--backbone", backbone]
    record = json.loads(run("run", llama, "--tokens", "1,5,9", "--new", 6, *options, "--json").out)
    model = lottapack.load(llama)
    due = model.generate(torch.tensor([[1, 5, 9]]), do_sample=False, max_new_tokens=6, pad_token_id=0)[0, 3:]
    assert record["tokens"] == due.tolist()
    assert record["backbone"] == (backbone or "virtual")
    assert record["tokens_per_s"] > 0
    assert record["peak_bytes"] > 10_000_000


def test_a_prompt_is_text_and_so_is_the_answer(llama: Path, run: Run, tmp_path: Path) -> None:
    record = json.loads(run("run", llama, "--tokens", "1,5,9", "--new", 4, "--json").out)
    result = run("run", llama, "--prompt", "w1 w5 w9", "--new", 4)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == "prompt  w1 w5 w9"
    assert result.out.splitlines()[1] == " ".join(WORDS[token] for token in record["tokens"])
    assert "4 tokens in" in result.out
    assert "backbone virtual" in result.out
    alone = tmp_path / llama.name
    alone.write_bytes(llama.read_bytes())
    refused(run("run", alone, "--prompt", "w1"), 2, "does not contain a tokenizer", "token ids")
    assert run("run", alone, "--prompt", "w1 w5", "--tokenizer", llama.parent, "--new", 1, "--quiet") == (0, "", "")


def test_tokens_are_drawn_from_a_seed_and_the_callers_stream_goes_on(llama: Path, run: Run) -> None:
    def drawn(seed: int) -> tuple[int, ...]:
        return lottapack.run(llama, tokens=[1, 5], new_tokens=12, temperature=1.5, top_p=0.95, seed=seed).tokens

    torch.manual_seed(0)
    due = torch.rand(2)
    torch.manual_seed(0)
    first = drawn(1)
    assert torch.equal(torch.rand(2), due)
    assert drawn(1) == first
    assert len({drawn(seed) for seed in range(4)}) > 1
    line = ["run", llama, "--tokens", "1,5", "--new", 12, "--temperature", 1.5, "--top-p", 0.95, "--seed", 1, "--json"]
    assert tuple(json.loads(run(*line).out)["tokens"]) == first


def test_the_command_names_its_options_for_sampling(llama: Path, run: Run) -> None:
    line = ["run", llama, "--tokens", "1", "--new", 1]
    refused(run(*line, "--top-p", 0.5), 2, "--top-p and --seed only apply to sampling, and --temperature is 0")
    refused(run(*line, "--temperature", 1, "--top-p", 0), 2, "--top-p 0.0", "--top-p above 0 and at most 1")


@pytest.mark.parametrize(
    "words", [{"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": 1.0, "top_p": 0.0}, {"seed": 3}]
)
def test_what_draws_no_token_is_refused(llama: Path, words: dict[str, float]) -> None:
    with pytest.raises(lottapack.errors.CheckpointError, match="temperature"):
        lottapack.run(llama, tokens=[1], new_tokens=1, **words)


def test_any_other_model_computes_an_output(files: Files, run: Run, tmp_path: Path) -> None:
    given = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", given.numpy())
    due = lottapack.load(files.pack)(given).detach()
    result = run("run", files.pack, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert (result.code, result.err) == (0, "")
    assert "output  3 x 4" in result.out
    assert f"[{due[0, 0].item():.6g}, " in result.out
    assert "backbone materialised" in result.out
    assert torch.equal(torch.from_numpy(np.load(tmp_path / "y.npy")), due)
    save_file({"input": given}, tmp_path / "x.safetensors")
    line = ["run", files.pack, "--input", tmp_path / "x.safetensors", "-o", tmp_path / "y.safetensors"]
    record = json.loads(run(*line, "--backbone", "blocks", "--max-bytes", 20_000, "--json").out)
    assert record["outputs"] == {"output": [3, 4]}
    assert torch.allclose(load_file(tmp_path / "y.safetensors")["output"], due, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("returned", "due"),
    [
        (lambda y: (y, [y + 1, {"z": y[0]}]), {"output.0": (2, 4), "output.1.0": (2, 4), "output.1.1.z": (4,)}),
        (lambda y: {"a": y, 1: (y, None), "b": y[:1]}, {"a": (2, 4), "1.0": (2, 4), "b": (1, 4)}),
    ],
    ids=["tuple", "mapping"],
)
def test_each_tensor_of_an_output_is_named_and_written(
    returned: Any, due: dict[str, tuple[int, ...]], files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that shares memory with another one is written too, and none is left out in silence."""
    inner = nn.Sequential.forward
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, x: returned(inner(self, x)))
    result = lottapack.run(files.pack, inputs=torch.ones(2, 16), output=tmp_path / "y.safetensors")
    assert result.outputs == due
    written = load_file(tmp_path / "y.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == due
    assert {name: tensor.tolist() for name, tensor in written.items()} == result.values


def test_a_model_that_returns_no_tensors_is_refused(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Sequential, "forward", lambda *_: [None])
    with pytest.raises(lottapack.errors.CheckpointError, match="returned a list without tensors"):
        lottapack.run(files.pack, inputs=torch.ones(2, 16))


def test_what_cannot_run_is_refused(files: Files, llama: Path, run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((1, 17), np.float32))
    np.save(tmp_path / "good.npy", np.zeros((1, 16), np.float32))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    refused(run("run", files.pack), 2, "--prompt, --tokens and --input")
    refused(run("run", files.pack, "--tokens", "1,x"), 2, "expected numbers separated by commas")
    refused(run("run", files.pack, "--tokens", "1"), 2, "a Sequential cannot generate tokens", "--input")
    refused(run("run", llama, "--tokens", "1,32"), 2, "token ids go from 0 to 31")
    refused(run("run", files.pack, "--input", tmp_path / "wide.npy"), 2, "cannot take the input", "float32 (1, 17)")
    refused(run("run", files.pack, "--input", tmp_path / "broken.npy"), 2, "cannot read tensors")
    refused(run("run", files.pack, "--input", tmp_path / "x.csv"), 2, "unknown file type", ".npy")
    refused(
        run("run", files.pack, "--input", tmp_path / "good.npy", "-o", tmp_path / "y.csv"),
        2,
        "its name must end in .safetensors or .npy",
    )
    refused(run("run", files.pack, "--tokens", "1", "--backbone", "virtual"), 2, "0.weight cannot be virtual")
    refused(run("run", llama, "--tokens", "1", "--backbone", "quick"), 2, "unknown --backbone quick")
    refused(run("run", llama, "--tokens", "1", "-o", tmp_path / "y.npy"), 2, "is only written for a model with --input")
    line = ("run", files.pack, "--input", tmp_path / "good.npy", "--tokenizer", llama.parent)
    refused(run(*line), 2, "and --tokenizer only apply to language models")
    refused(run("run", llama, "--prompt", ""), 2, "does not have tokens", "--prompt")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "run.. needs one input: a prompt, tokens or other inputs"),
        ({"prompt": "w1", "tokens": [1]}, "`prompt` and `tokens` were passed"),
        ({"prompt": "w1", "inputs": "x.npy"}, "`prompt` and `inputs` were passed"),
    ],
)
def test_it_takes_one_input(llama: Path, inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(lottapack.errors.CheckpointError, match=said):
        lottapack.run(llama, **inputs)


def test_a_named_tokenizer_decodes_new_tokens(llama: Path, run: Run) -> None:
    record = json.loads(run("run", llama, "--tokens", "1,5", "--new", 3, "--tokenizer", llama.parent, "--json").out)
    assert record["text"] == " ".join(WORDS[token] for token in record["tokens"])


def test_bench_measures_products(run: Run) -> None:
    line = ["bench", "--virtual", "--elements", 4096, "--rounds", 1]
    result = run(*line)
    assert (result.code, result.err) == (0, "")
    assert [
        word for word in ("virtual", "blocks", "float32", "bfloat16", "128 x 32 weights") if word not in result.out
    ] == []
    record = json.loads(run(*line, "--json").out)
    assert [(one["case"], one["inputs"]) for one in record["products"] if one["weight_bytes"] == 0] == [
        ("virtual", 1),
        ("virtual", 8),
        ("virtual", 128),
    ]


def test_a_pack_that_torch_drew_runs_from_memory(tmp_path: Path, run: Run) -> None:
    """A pack of weights drawn by torch runs with a materialised backbone."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(4, 3))
    lottapack.pack(
        lottapack.recover.torch_cpu(model, seed=5, architecture=nn.Sequential(nn.Linear(4, 3))), tmp_path / "drawn"
    )
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    assert (
        json.loads(run("run", tmp_path / "drawn", "--input", tmp_path / "x.npy", "--json").out)["backbone"]
        == "materialised"
    )
