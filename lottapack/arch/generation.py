"""The text generation settings of a transformers model as data: ``generation_config.json``."""

import json
from typing import Any

from torch import nn

from lottapack.arch.budget import Budget
from lottapack.arch.skeleton import guarded
from lottapack.arch.transformers_models import config_of, model_class
from lottapack.errors import ArchitectureError
from lottapack.format.descriptor import Architecture

_OF_A_RUN = "compile_config"
"""How a model is compiled. The library cannot read what it writes of it."""
_REFUSED = ("auto_map", "custom_generate", "trust_remote_code")
_WHERE_FROM = "The file belongs to another model, or was changed. Remove it, or replace it by the model's own."


def of_model(model: nn.Module, architecture: Architecture) -> bytes | None:
    """Return a live model's settings, or None if its configuration implies them. Raises ArchitectureError."""
    settings: Any = getattr(model, "generation_config", None)
    data = None if settings is None else _unless_default(settings, architecture)
    if data is not None:
        try:
            _read(data, architecture)
        except ArchitectureError as fault:
            raise ArchitectureError(
                f"model.generation_config cannot be packed: {fault.message}",
                hint="Remove the setting, or set it to None.",
            ) from fault
    return data


def of_json(data: bytes, architecture: Architecture) -> bytes | None:
    """Return the same from the file that the library saves. Raises ArchitectureError, UnsupportedError."""
    if not model_class(architecture.class_).can_generate():
        return None
    return _unless_default(_read(data, architecture), architecture)


def put(model: nn.Module, data: bytes, architecture: Architecture) -> None:
    """Give a model the settings that a pack holds. Raises ArchitectureError."""
    model.generation_config = _read(data, architecture)


def _read(data: bytes, architecture: Architecture) -> Any:
    try:
        settings: Any = json.loads(data)
    except ValueError as fault:
        raise ArchitectureError(f"cannot read generation_config.json as JSON: {fault}", hint=_WHERE_FROM) from fault
    if not isinstance(settings, dict):
        raise ArchitectureError("generation_config.json is not an object", hint=_WHERE_FROM)
    for key in settings:
        if key in _REFUSED or (key.startswith("_") and key != "_from_model_config"):
            raise ArchitectureError(
                f"generation_config.json sets {key[:100]!r}, which a pack may not set", hint=_WHERE_FROM
            )
    settings = {
        key: value
        for key, value in settings.items()
        if key not in ("_from_model_config", "transformers_version", _OF_A_RUN)
    }
    kind, label = _kind(architecture), f"the generation_config.json of {architecture.class_}"
    return guarded(lambda: kind.from_dict(settings), label, Budget())


def _unless_default(settings: Any, architecture: Architecture) -> bytes | None:
    kind, label = _kind(architecture), f"the generation_config of {architecture.class_}"
    text, implied = guarded(
        lambda: (_text(settings), _text(kind.from_model_config(config_of(architecture)))), label, Budget()
    )
    return None if text == implied else text.encode()


def _text(settings: Any) -> str:
    text: str = settings.to_json_string(use_diff=True, ignore_metadata=True)
    if getattr(settings, _OF_A_RUN, None) is None:
        return text
    said = {key: value for key, value in json.loads(text).items() if key != _OF_A_RUN}
    return json.dumps(said, indent=2, sort_keys=True) + "\n"


def _kind(architecture: Architecture) -> Any:
    """Return the model class's own kind of generation configuration."""
    from transformers import GenerationConfig

    return getattr(model_class(architecture.class_), "generation_config_class", None) or GenerationConfig
