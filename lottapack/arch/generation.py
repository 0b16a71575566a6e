"""How a transformers model generates text, as data beside its configuration: ``generation_config.json``."""

import json
from typing import Any

from torch import nn

from lottapack.arch.budget import Budget
from lottapack.arch.skeleton import guarded
from lottapack.arch.transformers_models import config_of, model_class
from lottapack.errors import ArchitectureError
from lottapack.format.descriptor import Architecture

_REFUSED = ("auto_map", "custom_generate", "trust_remote_code")
_WHERE_FROM = "It belongs to another model, or was changed. Leave it out, or put the right one there."


def of_model(model: nn.Module, architecture: Architecture) -> bytes | None:
    """What a live model has; None where its configuration gives that by itself. Raises ArchitectureError."""
    said: Any = getattr(model, "generation_config", None)
    return None if said is None else _unless_default(said, architecture)


def of_json(data: bytes, architecture: Architecture) -> bytes | None:
    """The same of the file that the library saves. Raises ArchitectureError, UnsupportedError."""
    if not model_class(architecture.class_).can_generate():
        return None
    return _unless_default(_read(data, architecture), architecture)


def put(model: nn.Module, data: bytes, architecture: Architecture) -> None:
    """Give a model what a pack holds for it. Raises ArchitectureError."""
    model.generation_config = _read(data, architecture)


def _read(data: bytes, architecture: Architecture) -> Any:
    try:
        said: Any = json.loads(data)
    except ValueError as fault:
        raise ArchitectureError(f"generation_config.json cannot be read as JSON: {fault}", hint=_WHERE_FROM) from fault
    if not isinstance(said, dict):
        raise ArchitectureError("generation_config.json is not an object", hint=_WHERE_FROM)
    for key in said:
        if key in _REFUSED or (key.startswith("_") and key != "_from_model_config"):
            raise ArchitectureError(f"generation_config.json sets {key[:100]!r}, which a pack cannot", hint=_WHERE_FROM)
    said = {key: value for key, value in said.items() if key not in ("_from_model_config", "transformers_version")}
    kind, label = _kind(architecture), f"the generation_config.json of {architecture.class_}"
    return guarded(lambda: kind.from_dict(said), label, Budget())


def _unless_default(said: Any, architecture: Architecture) -> bytes | None:
    kind, label = _kind(architecture), f"the generation_config of {architecture.class_}"
    text, due = guarded(lambda: (_text(said), _text(kind.from_model_config(config_of(architecture)))), label, Budget())
    return None if text == due else text.encode()


def _text(said: Any) -> str:
    text: str = said.to_json_string(use_diff=True, ignore_metadata=True)
    return text


def _kind(architecture: Architecture) -> Any:
    """The class's own kind of such a configuration."""
    from transformers import GenerationConfig

    return getattr(model_class(architecture.class_), "generation_config_class", None) or GenerationConfig
