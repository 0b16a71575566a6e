"""Packs that are valid: just as much as the format allows."""

from typing import Any

from .invalid_limits import levels
from .model import Model, linear, sequential, tensor
from .shown import shows


@shows("a tree of 16 levels")
def tree_of_16_levels() -> Model:
    model = Model(levels(16))
    model.seeded("0." * 15 + "weight", [2, 2])
    return model


@shows("10,000 arguments of a call, down to level 16; keys of dictionaries that are no identifiers", buildable=False)
def most_arguments() -> Model:
    value: Any = {"tuple": [1]}
    for _ in range(5):
        value = {"a b": [value]}
    for _ in range(2):
        value = [value]
    odd = {"": 1, "in-features": 2, "1": 3, "_x": 4, "a.b": 5, "é": 6}
    config = {"x": {"tuple": [{"class": "a:C", "config": {"y": value}}]}, "z": odd}
    config["w"] = [0] * (10_000 - counted(config) - 1)
    assert counted(config) == 10_000
    model = Model({"family": "python", "class": "a" * 509 + ":Bc", "config": config})
    model.stored("0.weight", tensor("float32", 2, 2))
    return model


def counted(value: Any) -> int:
    """How many arguments lie inside a value."""
    if isinstance(value, dict):
        inside = value["tuple"] if "tuple" in value else value["config"] if "class" in value else value
        return counted(inside) if inside is not value else sum(1 + counted(item) for item in value.values())
    return sum(1 + counted(item) for item in value) if isinstance(value, list) else 0


@shows("timm: keys of a dictionary that are no identifiers, and a name of 512 characters", buildable=False)
def timm_dictionary() -> Model:
    model = Model({"family": "timm", "class": "v" * 512, "config": {"a": {"b c": 1, "": 2}}})
    model.stored("0.weight", tensor("float32", 2, 2))
    return model


@shows("transformers: 100,000 values", buildable=False)
def most_values() -> Model:
    config = {"model_type": "gpt2", "a": [0] * 99_998}
    model = Model({"family": "transformers", "class": "GPT2Model", "config": config})
    model.stored("wte.weight", tensor("float32", 2, 2))
    return model


@shows("alpha is any binary64 number: the scaling is rounded once, after the division", buildable=False)
def exact_alpha() -> Model:
    model = Model(sequential())
    for number, (alpha, rank, scaling) in enumerate(
        ((0.1, 3, "lora"), (0.7, 3, "lora"), (0.3, 5, "rslora"), (1e-30, 3, "lora"), (16777217.0, 1, "lora"))
    ):
        model.adapted(f"{number}.weight", [5, 6], rank=rank, alpha=alpha, scaling=scaling)
    return model


@shows("the longest minor version, nesting 64 deep, the least and the largest integer")
def longest_version() -> Model:
    model = Model(sequential(linear(2, 2, bias=False)))
    model.seeded("0.weight", [2, 2])
    model.descriptor["lottapack"] = "1.999999999"
    value: Any = []
    for _ in range(62):
        value = [value]
    model.descriptor |= {"x-deep": value, "x-integers": [1 - 2**53, 2**53 - 1]}
    return model


@shows("the longest fields of torch-cpu")
def torch_cpu_longest() -> Model:
    model = Model(sequential(linear(3, 2, bias=False)))
    model.descriptor["rng"] |= {"id": "torch-cpu", "torch": "!" * 64, "capability": "~" * 64}
    model.stored("0.weight", tensor("float32", 2, 3), "head")
    return model


@shows(
    "adapters on sides of 1; VeRA of rank 4,096, and its factors shared by a layer of the same size", buildable=False
)
def adapter_borders() -> Model:
    model = Model(sequential())
    model.adapted("a.weight", [4, 1])
    model.adapted("b.weight", [1, 3])
    vectors = "lambda_b", "lambda_d"
    drawn = {"lora_A": ("sign1", 0.5), "lora_B": ("sign1", 0.25)}
    slices = {"lora_A": "c.weight", "lora_B": "c.weight"}
    model.adapted("c.weight", [2, 3], rank=4096, vectors=vectors, drawn=drawn, adapter_dtype="float16")
    model.adapted("d.weight", [2, 3], rank=4096, vectors=vectors, slices=slices, adapter_dtype="float16")
    return model
