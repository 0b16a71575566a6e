"""The family ``transformers``: a class of the library by name, and its config (spec: architectures, section 2)."""

import logging
import reprlib
import sys
from collections.abc import Iterable
from math import isfinite, isnan
from typing import Any

import numpy as np
from torch import nn

from lottapack.arch.budget import Budget
from lottapack.arch.family import Family
from lottapack.arch.labels import LABELS, NUMBERS, numbers_of, with_labels
from lottapack.arch.numbers import check_numbers
from lottapack.arch.skeleton import guarded
from lottapack.arch.transformers_saved import converted
from lottapack.arch.versions import mentions, require_sound
from lottapack.arch.walk import modules, named_modules
from lottapack.errors import ArchitectureError
from lottapack.extras import require
from lottapack.format.descriptor import Architecture
from lottapack.format.rules import is_refused_key

_log = logging.getLogger(__name__)

_NOT_OF_THE_MODEL = (
    "architectures",
    "auto_map",
    "dtype",
    "pretrained_cfg",
    "torch_dtype",
    "transformers_version",
    "transformers_weights",
    # The kernels that the library runs, which it notes in the configurations of parts.
    "attn_implementation",
    "experts_implementation",
)
"""Keys that say how a model was saved or runs, or where its own code would be, but not what it is."""
_FLOAT = "__float__"
_NOT_FINITE = ("Infinity", "-Infinity", "NaN")


_BY_NAME = 'Use a class that transformers exports, or lottapack.build("python", "package.module:Class", ...).'
_OWN_CONFIG = "Use the configuration that belongs to this model class."


def _library() -> Any:
    if "transformers" not in sys.modules:
        _log.info("importing transformers")
    transformers = require("transformers", "transformers", "the model")
    require_sound("transformers")
    return transformers


def owns(model: nn.Module) -> bool:
    """Return whether a module is a transformers model, without importing transformers."""
    library = sys.modules.get("transformers")
    base = getattr(library, "PreTrainedModel", None)
    return base is not None and isinstance(model, base)


def model_class(name: str) -> Any:
    """Return the class that the library exports under a name. Raises ArchitectureError, UnsupportedError."""
    found = getattr(_library(), name, None)
    base = _library().PreTrainedModel
    if not (isinstance(found, type) and issubclass(found, base) and found.__name__ == name and found is not base):
        raise ArchitectureError(
            f"transformers does not have the model class {name!r}",
            hint="Install the transformers version that the pack was made with.",
        )
    return found


def describe(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the class name and configuration.

    Raises ArchitectureError for classes that the library does not export.
    """
    name = type(model).__name__
    if model_class(name) is not type(model):
        raise ArchitectureError(
            f"{type(model).__module__}.{name} is not the class that transformers exports as {name}", hint=_BY_NAME
        )
    config: Any = model.config
    if getattr(config, "quantization_config", None):
        raise ArchitectureError("the model was quantised by another tool", hint="Pack the model before quantising it.")
    return name, plain_config(config.to_dict())


def current(model: nn.Module, architecture: Architecture) -> dict[str, Any]:
    """Return a model's present configuration, even if its class is wrapped or replaced. Raises ArchitectureError."""
    config: Any = getattr(model, "config", None)
    if config is None:
        return architecture.config
    if getattr(config, "quantization_config", None):
        raise ArchitectureError("the model was quantised by another tool", hint="Pack the model before quantising it.")
    configuration: dict[str, Any] = plain_config(config.to_dict())
    return configuration


def saved(said: Any, architecture: Architecture) -> dict[str, Any]:
    """Return the configuration in a ``config.json`` as the library reads it.

    Raises ArchitectureError, UnsupportedError.
    """
    cls = model_class(architecture.class_)
    kind = cls.config_class.model_type
    if not isinstance(said, dict) or said.get("model_type") != kind:
        other = said.get("model_type") if isinstance(said, dict) else None
        raise ArchitectureError(
            f"is not the configuration of a {cls.__name__}: its model_type is {other!r}", hint=_OWN_CONFIG
        )
    if said.get("quantization_config"):
        raise ArchitectureError("the model was quantised by another tool", hint="Pack the model before quantising it.")
    plain = plain_config(said)
    check_numbers(cls.__name__, plain, Budget())
    made: Any = guarded(lambda: _configuration(cls, plain), cls.__name__, Budget())
    found: dict[str, Any] = plain_config(made.to_dict())
    return found


def plain_config(value: Any) -> Any:
    """Return a configuration without keys that say how a model was saved. Raises ArchitectureError for other than JSON.

    Writes NaN and infinities, which JSON lacks, as the library does.
    """
    if isinstance(value, dict):
        if _is_not_finite(value):
            return value
        kept = {str(key): item for key, item in value.items() if str(key) not in _NOT_OF_THE_MODEL}
        plain = {key: plain_config(item) for key, item in kept.items() if not key.startswith("_") and key != NUMBERS}
        if NUMBERS in kept:
            plain[NUMBERS] = _numbers_of_labels(kept[NUMBERS], plain.get(LABELS))
        return plain
    if isinstance(value, list | tuple):
        return [plain_config(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return {_FLOAT: "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return plain_config(value.item())
    raise ArchitectureError(f"the configuration contains {value!r}, which is not JSON", hint="Use plain data.")


def _numbers_of_labels(numbers: Any, labels: Any) -> Any:
    """Return ``label2id`` without labels that no key may be; with_labels() adds them from ``id2label``.

    Raises ArchitectureError for a label whose number ``id2label`` does not tell.
    """
    if not isinstance(numbers, dict):
        return plain_config(numbers)
    told = numbers_of(labels)
    for label, number in numbers.items():
        if is_refused_key(str(label)) and told.get(str(label)) != number:
            raise ArchitectureError(
                f"label2id gives the label {str(label)!r} the number {number!r}, and id2label does not: "
                "a pack cannot hold it",
                hint="Give id2label the same labels, or rename this one.",
            )
    return {str(label): plain_config(number) for label, number in numbers.items() if not is_refused_key(str(label))}


def as_far_as_plain(model: nn.Module) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Return a model's present configuration without what a pack cannot hold, and the latter by place, in words."""
    config: Any = getattr(model, "config", None)
    if config is None or getattr(config, "quantization_config", None):
        return None, {}
    held: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for key, value in config.to_dict().items():
        try:
            plain_config({key: value})
        except ArchitectureError:
            refused[f"config.{key}"] = f"is {reprlib.repr(value)}"
        else:
            held[key] = value
    return plain_config(held), refused


def _with_floats(value: Any) -> Any:
    """Return a configuration read from JSON, with NaN and infinities as floats."""
    if isinstance(value, dict):
        if _is_not_finite(value):
            return float(value[_FLOAT])
        return {key: _with_floats(item) for key, item in value.items()}
    return [_with_floats(item) for item in value] if isinstance(value, list) else value


def _is_not_finite(value: dict[str, Any]) -> bool:
    return value.keys() == {_FLOAT} and value[_FLOAT] in _NOT_FINITE


def construct(class_name: str, config: dict[str, Any]) -> nn.Module:
    """Call the library's class with its own configuration class."""
    cls = model_class(class_name)
    model: Any = cls(_configuration(cls, config))
    model.tie_weights()
    _fill_buffers(model, model)
    result: nn.Module = model
    return result


def _fill_buffers(module: nn.Module, owner: Any) -> None:
    """Fill buffers that are in no state_dict, because some classes only do it while they initialise weights.

    As in the library, ``owner``, the innermost of its models around a module, does so.
    """
    for child in module.children():
        _fill_buffers(child, child if owns(child) else owner)
    if module._non_persistent_buffers_set:
        owner._init_weights(module)


def draw(class_name: str, config: dict[str, Any]) -> nn.Module:
    """Construct with the class's own initialisation."""
    cls = model_class(class_name)
    model: nn.Module = cls(_configuration(cls, config))
    return model


def _configuration(cls: Any, config: dict[str, Any]) -> Any:
    config_class = cls.config_class
    if config.get("model_type", config_class.model_type) != config_class.model_type:
        raise ArchitectureError(
            f"{cls.__name__} has model_type {config_class.model_type!r}, but the pack says {config['model_type']!r}",
            hint=_OWN_CONFIG,
        )
    # A dtype would set the default dtype of the whole process while the library builds a part.
    made = config_class.from_dict(_with_floats(with_labels(plain_config(config))))
    if mentions(made.to_dict(), "timm"):
        require_sound("timm")
    return made


def config_of(architecture: Architecture) -> Any:
    """Return the library's own configuration of an architecture."""
    return _configuration(model_class(architecture.class_), architecture.config)


def heads(model: nn.Module) -> set[str]:
    """Return the names of linear layers outside the base model, and of the output embeddings."""
    base = getattr(model, "base_model", model)
    inner = {id(module) for module in modules(base)} if isinstance(base, nn.Module) else set()
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    return {
        name
        for name, module in named_modules(model)
        if module is output or (isinstance(module, nn.Linear) and id(module) not in inner)
    }


def renamed(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return the model's names of a checkpoint's entries: save_pretrained() writes old names of some models."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:  # this version saves the model's names
        return {}
    rules = [rule for rule in get_model_conversion_mapping(model) if isinstance(rule, WeightRenaming)]
    return {name: rename_source_key(name, rules, [])[0] for name in sorted(names)}


FAMILY = Family(
    name="transformers",
    owns=owns,
    describe=describe,
    construct=construct,
    draw=draw,
    heads=heads,
    current=current,
    as_far_as_plain=as_far_as_plain,
    saved=saved,
    renamed=renamed,
    converted=converted,
    tools=lambda _, __: ("transformers",),
    fills=lambda _, config: mentions(config, "timm"),
    computes=True,
    numbers="sizes",
    prepare=lambda class_name, _: model_class(class_name),
)
