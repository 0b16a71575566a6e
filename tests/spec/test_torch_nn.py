"""torch_nn.json and the architectures of the valid packs, against the installed torch."""

import inspect
import json

import pytest
import torch
from spec_files import V1, descriptor_of, files, split
from torch import nn

from lottapack.format.torch_nn_classes import ARGUMENTS

CLASSES = json.loads((V1 / "torch_nn.json").read_text("utf-8"))
NOT_DESCRIBED = {"device", "dtype", "args", "kwargs"}
REQUIRED = {"kernel_size": 3, "normalized_shape": (4,), "num_groups": 2, "unflattened_size": (2, 2)}
REQUIRED |= {"padding": 1, "dim": 1}
# Arguments that packs do not hold: without an attribute or a use; and one that torch 2.6 lacks.
LEFT_OUT = {
    "Embedding": {"max_norm", "norm_type", "scale_grad_by_freq", "sparse", "_weight", "_freeze"},
    "Hardtanh": {"min_value", "max_value"},
}
NORMS = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d"}
BUILDABLE = {name: pack for name, (pack, sidecar) in files("valid").items() if sidecar["buildable"]}


def parameters_of(name):
    return inspect.signature(getattr(nn, name)).parameters


def build(name, config):
    """An independent reading of architectures.md, section 1; on the meta device."""
    if name == "Sequential":
        module = nn.Sequential()
        for child in config["children"]:
            module.add_module(child["name"], build(child["class"], child["config"]))
        return module
    assert set(config) == set(CLASSES[name])
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    factory = {"device": "meta"} if "device" in parameters_of(name) else {}
    return getattr(nn, name)(**arguments, **factory)


def test_the_list_is_sorted_and_has_no_container():
    assert list(CLASSES) == sorted(CLASSES)
    containers = nn.Sequential | nn.ModuleList | nn.ModuleDict
    assert not any(issubclass(getattr(nn, name), containers) for name in CLASSES)


def test_lottapack_has_the_same_list():
    assert {name: list(arguments) for name, arguments in ARGUMENTS.items()} == CLASSES


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_those_of_the_constructor(name):
    assert set(CLASSES[name]) <= parameters_of(name).keys()
    left_out = {"bias"} if name in NORMS else LEFT_OUT.get(name, set())
    assert parameters_of(name).keys() - set(CLASSES[name]) - NOT_DESCRIBED <= left_out


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_an_attribute(name):
    constructor = parameters_of(name)
    needed = [key for key in CLASSES[name] if constructor[key].default is inspect.Parameter.empty]
    module = getattr(nn, name)(**{key: REQUIRED.get(key, 4) for key in needed})
    for argument in CLASSES[name]:
        value = getattr(module, argument)
        plain = torch.Tensor if argument == "bias" else bool | int | float | str | tuple
        assert value is None or isinstance(value, plain)


@pytest.mark.parametrize("name", BUILDABLE)
def test_valid_packs_describe_what_torch_builds(name):
    pack = BUILDABLE[name]
    descriptor = descriptor_of(pack)
    architecture = descriptor["architecture"]
    if architecture["family"] == "transformers":
        transformers = pytest.importorskip("transformers")
        model_class = getattr(transformers, architecture["class"])
        with torch.device("meta"):
            model = model_class(model_class.config_class(**architecture["config"]))
    else:
        model = build(architecture["class"], architecture["config"])
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    declared = descriptor["parameters"]
    assert shapes.keys() == declared.keys()
    for key, shape in shapes.items():
        entry = declared[key]
        while entry["role"] == "tied":
            entry = declared[entry["to"]]
        assert entry["shape"] == shape, key


def test_safetensors_reads_every_valid_pack():
    from safetensors import safe_open

    for pack, _ in files("valid").values():
        entries, _ = split(pack)
        with safe_open(pack, "pt") as opened:
            assert set(opened.keys()) == entries.keys() - {"__metadata__"}
            for key in opened.keys():  # noqa: SIM118 (safe_open is no dict)
                assert list(opened.get_tensor(key).shape) == entries[key]["shape"]
