"""The family ``transformers``: a class of the library by name and its config (spec: architectures, section 2)."""

import logging
import sys
from collections.abc import Iterable
from math import isfinite, isnan
from typing import Any

from torch import nn

from lottapack.arch import Family
from lottapack.arch.budget import Budget
from lottapack.arch.numbers import check_numbers
from lottapack.arch.skeleton import guarded
from lottapack.arch.transformers_saved import converted
from lottapack.arch.versions import mentions, require_sound
from lottapack.errors import ArchitectureError, UnsupportedError
from lottapack.format.descriptor import Architecture

_log = logging.getLogger(__name__)

_NOT_OF_THE_MODEL = (
    "architectures",
    "auto_map",
    "dtype",
    "pretrained_cfg",
    "torch_dtype",
    "transformers_version",
    "transformers_weights",
    # Which of its own kernels the library runs; it notes them in the configurations of parts.
    "attn_implementation",
    "experts_implementation",
)
"""Keys that say how a model was saved or is run, or where code of its own would be, not what it is."""
_FLOAT = "__float__"
_NOT_FINITE = ("Infinity", "-Infinity", "NaN")


def _library() -> Any:
    if "transformers" not in sys.modules:
        _log.info("importing transformers")
    try:
        import transformers
    except ImportError as fault:
        raise UnsupportedError(
            "this pack holds a transformers model, and transformers is not installed",
            hint="Install it: pip install 'lottapack[transformers]'",
        ) from fault
    require_sound("transformers")
    return transformers


def owns(model: nn.Module) -> bool:
    """Whether a module is a transformers model (nothing is imported to find out)."""
    library = sys.modules.get("transformers")
    base = getattr(library, "PreTrainedModel", None)
    return base is not None and isinstance(model, base)


def model_class(name: str) -> Any:
    """The class that the library exports under a name. Raises ArchitectureError, UnsupportedError."""
    found = getattr(_library(), name, None)
    base = _library().PreTrainedModel
    if not (isinstance(found, type) and issubclass(found, base) and found.__name__ == name and found is not base):
        raise ArchitectureError(
            f"transformers has no model class {name!r}",
            hint="The installed transformers may be older or newer than the one that the pack was made with.",
        )
    return found


def describe(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Class name and configuration. Raises ArchitectureError for classes that the library does not export."""
    name = type(model).__name__
    if model_class(name) is not type(model):
        raise ArchitectureError(f"{type(model).__module__}.{name} is not the class that transformers calls {name}")
    config: Any = model.config
    if getattr(config, "quantization_config", None):
        raise ArchitectureError("the model is quantised by another tool; pack the model before quantising")
    return name, plain_config(config.to_dict())


def current(model: nn.Module, architecture: Architecture) -> dict[str, Any]:
    """The configuration of a model now, whatever wraps or replaced its class. Raises ArchitectureError."""
    config: Any = getattr(model, "config", None)
    if config is None:
        return architecture.config
    if getattr(config, "quantization_config", None):
        raise ArchitectureError("the model is quantised by another tool; pack the model before quantising")
    found: dict[str, Any] = plain_config(config.to_dict())
    return found


def saved(said: Any, architecture: Architecture) -> dict[str, Any]:
    """The configuration in a ``config.json``, as the library reads it. Raises ArchitectureError, UnsupportedError."""
    cls = model_class(architecture.class_)
    kind = cls.config_class.model_type
    if not isinstance(said, dict) or said.get("model_type") != kind:
        other = said.get("model_type") if isinstance(said, dict) else None
        raise ArchitectureError(f"is not the configuration of a {cls.__name__}: its model_type is {other!r}")
    if said.get("quantization_config"):
        raise ArchitectureError("the model is quantised by another tool; pack the model before quantising")
    plain = plain_config(said)
    check_numbers(cls.__name__, plain, Budget())
    made: Any = guarded(lambda: _configuration(cls, plain), cls.__name__, Budget())
    found: dict[str, Any] = plain_config(made.to_dict())
    return found


def plain_config(value: Any) -> Any:
    """A configuration without what says how a model was saved. Raises ArchitectureError for what is not JSON.

    Floats that JSON lacks become what the library writes for them.
    """
    if isinstance(value, dict):
        if _is_not_finite(value):
            return value
        kept = {str(key): item for key, item in value.items() if str(key) not in _NOT_OF_THE_MODEL}
        return {key: plain_config(item) for key, item in kept.items() if not key.startswith("_")}
    if isinstance(value, list | tuple):
        return [plain_config(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return {_FLOAT: "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArchitectureError(f"the configuration holds {value!r}, which is not JSON")


def _with_floats(value: Any) -> Any:
    """A configuration from JSON, with the floats that JSON lacks."""
    if isinstance(value, dict):
        if _is_not_finite(value):
            return float(value[_FLOAT])
        return {key: _with_floats(item) for key, item in value.items()}
    return [_with_floats(item) for item in value] if isinstance(value, list) else value


def _is_not_finite(value: dict[str, Any]) -> bool:
    return value.keys() == {_FLOAT} and value[_FLOAT] in _NOT_FINITE


def construct(class_name: str, config: dict[str, Any]) -> nn.Module:
    """Call the library's own class with its own configuration class."""
    cls = model_class(class_name)
    model: Any = cls(_configuration(cls, config))
    model.tie_weights()
    _fill_buffers(model, model)
    result: nn.Module = model
    return result


def _fill_buffers(module: nn.Module, owner: Any) -> None:
    """Fill buffers that are in no state_dict: some classes do it only while they initialise weights.

    As in the library, the innermost of its models around a module, ``owner``, does so.
    """
    for child in module.children():
        _fill_buffers(child, child if owns(child) else owner)
    if module._non_persistent_buffers_set:
        owner._init_weights(module)


def draw(class_name: str, config: dict[str, Any]) -> nn.Module:
    """As construct(), with the initialisation that the class brings."""
    cls = model_class(class_name)
    model: nn.Module = cls(_configuration(cls, config))
    return model


def _configuration(cls: Any, config: dict[str, Any]) -> Any:
    config_class = cls.config_class
    if config.get("model_type", config_class.model_type) != config_class.model_type:
        raise ArchitectureError(
            f"{cls.__name__} is of model_type {config_class.model_type!r}, the pack says {config['model_type']!r}"
        )
    # Not a dtype: the library would set the default of the whole process while it builds a part.
    made = config_class.from_dict(_with_floats(plain_config(config)))
    if mentions(made.to_dict(), "timm"):
        require_sound("timm")
    return made


def config_of(architecture: Architecture) -> Any:
    """The library's own configuration of an architecture."""
    return _configuration(model_class(architecture.class_), architecture.config)


def heads(model: nn.Module) -> set[str]:
    """Linear layers outside the base model, and the output embeddings."""
    base = getattr(model, "base_model", model)
    inner = {id(module) for module in base.modules()} if isinstance(base, nn.Module) else set()
    found = {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and id(module) not in inner
    }
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    found |= {name for name, module in model.named_modules() if module is output}
    return found


def renamed(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """What entries of a checkpoint are called in the model: save_pretrained() writes the old names of some models."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:  # a version that saves the names that the model has
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
    saved=saved,
    renamed=renamed,
    converted=converted,
    tools=lambda _, __: ("transformers",),
    fills=lambda _, config: mentions(config, "timm"),
    numbers="sizes",
    prepare=lambda class_name, _: model_class(class_name),
)
