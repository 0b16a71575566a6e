"""Packs of the kinds that need more than torch.nn and what is learned: what write.py writes beside its own."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import lottapack

PACKAGE = "compat_models"
"""The module with the classes that packs of the family ``python`` name; a reader has to be allowed to import it."""


class Kind(NamedTuple):
    """What is given to pack()."""

    model: Any
    options: dict[str, Any] = {}  # noqa: RUF012


def learn(model: nn.Module) -> nn.Module:
    """Give what is trained values that lottapack draws, and return the model."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = lottapack.draw(f"learned.{name}", parameter.shape, seed=1, scale=0.125)
                parameter += noise.to(parameter.dtype)
    return model


def sequence(*sides: int) -> nn.Sequential:
    """Return linear layers with these sides."""
    return nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(sides)))


def gpt2() -> nn.Module:
    """Return a scaffolded GPT-2 of some hundred parameters."""
    import transformers

    config = transformers.GPT2Config(
        n_layer=1, n_embd=8, n_head=2, n_positions=8, vocab_size=16, bos_token_id=0, eos_token_id=0
    )
    return learn(lottapack.scaffold(transformers.GPT2LMHeadModel(config), seed=1, rank=2))


def experts(_: Path) -> Kind:
    """Experts that share a factor, of a class of the family ``python``."""
    model = lottapack.build("python", f"{PACKAGE}:Experts", experts=3, width=4, inner=6)
    shared = {"up": "lora_A", "down": "lora_B"}
    model = lottapack.scaffold(model, seed=1, rank=2, targets=["up", "down"], shared_factor=shared)
    return Kind(learn(model))


def dtypes(_: Path) -> Kind:
    """Buffers of every dtype."""
    model = lottapack.build("python", f"{PACKAGE}:Counters", width=4, options=(1, 2))
    return Kind(learn(lottapack.scaffold(model, seed=1, rank=2, targets=["body"])))


def tables(_: Path) -> Kind:
    """Weights of every other built-in table, with results."""
    names = ("normal8", "normal4", "normal2", "uniform16")
    model = lottapack.scaffold(
        sequence(8, 6, 6, 6, 8),
        seed=1,
        rank=2,
        targets=["0", "1", "2", "3"],
        distribution={str(number): name for number, name in enumerate(names)},
    )
    result = {"task": "text", "dataset": "none", "metric": "accuracy", "score": 0.5, "seeds": 3}
    return Kind(learn(model), {"results": [result]})


def magnitude(_: Path) -> Kind:
    """Magnitudes, as a PEFT adapter with DoRA has them, and a scale for each output."""
    model = learn(lottapack.scaffold(sequence(8, 6, 8), seed=1, rank=2, targets=["0", "1"], beta="output"))
    state: dict[str, Tensor] = dict(model.state_dict())
    recipe = json.loads(bytes(state["lottapack_recipe"].tolist()))
    recipe["parameters"]["0.weight"]["magnitude"] = True
    state["0.magnitude"] = lottapack.draw("learned.0.magnitude", (6,), seed=1).abs() + 1
    text = json.dumps(recipe, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    state["lottapack_recipe"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return Kind(state)


def adapters(coding: str) -> Callable[[Path], Kind]:
    """Return a kind with adapters in a coding."""

    def made(_: Path) -> Kind:
        model = lottapack.scaffold(sequence(64, 96), seed=1, rank=16, targets=["0"])
        return Kind(learn(model), {"compression": lottapack.Compression(coding={"adapters": coding})})

    return made


def computed(_: Path) -> Kind:
    """A model whose rotary frequencies were cast with it."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=16
    )
    model = transformers.LlamaForCausalLM(config).bfloat16()
    return Kind(learn(lottapack.scaffold(model, seed=1, rank=2)))


def files(folder: Path) -> Kind:
    """Files beside the model: one as it is, one compressed."""
    model = {"type": "WordLevel", "vocab": {f"w{number}": number for number in range(16)}, "unk_token": "w0"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}, indent=2), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', "utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    return Kind(gpt2(), {"files": folder})


def torch_cpu(_: Path) -> Kind:
    """Weights that torch drew: uniform ones, which torch's generator gives in the same order on every processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = sequence(8, 6, 4)
    return Kind(lottapack.recover.torch_cpu(model, seed=5, architecture=model))


def timm(_: Path) -> Kind:
    """A model of timm."""
    import torchvision_if_it_works  # noqa: F401

    small = {"img_size": (16, 16), "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = lottapack.build("timm", "vit_tiny_patch16_224", **small)
    return Kind(learn(lottapack.scaffold(model, seed=1, rank=2)))


CODINGS = ("int8-block64", "normal4-block64", "trellis8@0.02", "planes-zlib")

KINDS: dict[str, Callable[[Path], Kind]] = {
    "experts": experts,
    "dtypes": dtypes,
    "tables": tables,
    "magnitude": magnitude,
    **{f"adapters_{coding.partition('@')[0]}": adapters(coding) for coding in CODINGS},
    "computed": computed,
    "files": files,
    "torch_cpu": torch_cpu,
}
"""Kinds by name. A graph is added to a pack afterwards, and timm has an environment of its own."""
