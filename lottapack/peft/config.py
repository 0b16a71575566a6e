"""Read ``adapter_config.json`` as far as a pack can store it; everything else is refused by name."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lottapack.errors import CheckpointError, UnsupportedError
from lottapack.files.links import require_own_file
from lottapack.peft.patterns import fullmatch

CONFIG = "adapter_config.json"

_SAYS_NOTHING_OF_THE_WEIGHTS = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "d_initial",
    "init_weights",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
    "vera_dropout",
}
"""Keys that say how the adapter was trained or found. (Dropout is off when a model is used.)"""

_READ = {
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "projection_prng_key",
    "r",
    "rank_pattern",
    "save_projection",
    "target_modules",
    "use_dora",
    "use_rslora",
}
BESIDE_THE_ROLES = ("init_lora_weights", "lora_dropout", "task_type", "vera_dropout")
"""Keys that a pack stores unchanged, because no role records them."""

_TASKS = {"ForCausalLM": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS"}
"""PEFT's task for the end of a class's name."""

_KEEPS_THE_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that do not change the base's weights."""

_OF_AN_INITIALISATION = {"corda_config", "eva_config", "lora_ga_config"}
"""Settings of initialisations; another key says which one was used."""


_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """An adapter that a pack can store. ``targets`` and ``excluded``: a regular expression, or ends of names.

    ``projection_key``: of VeRA, from what PEFT draws projections that it did not save; None for LoRA.
    """

    rank: int
    alpha: float
    scaling: str
    magnitude: bool
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    some_layers: bool
    saved: tuple[str, ...]
    base: str
    projection_key: int | None = None
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's adapter."""
        return _by_pattern(self.ranks, module, self.rank)

    def alpha_of(self, module: str) -> float:
        """Return the alpha of a module's adapter."""
        return _by_pattern(self.alphas, module, self.alpha)

    def is_saved(self, module: str) -> bool:
        """Return whether a module is trained in full. PEFT compares the ends of names, with or without a point."""
        return module.endswith(self.saved)

    def targeted(self, modules: Iterable[str]) -> set[str]:
        """Return the modules that should have an adapter; an empty set if their names alone do not tell."""
        if self.some_layers or self.targets == "all-linear":
            return set()
        return {
            name
            for name in modules
            if _matches(self.targets, name)
            and not _matches(self.excluded, name)
            and not any(re.match(rf"(^|.*\.){re.escape(saved)}($|\..*)", name) for saved in self.saved)
        }


def task_of(class_name: str) -> str | None:
    """Return PEFT's task for a transformers class, or None."""
    return next((task for end, task in _TASKS.items() if class_name.endswith(end)), None)


def said_beside_the_roles(folder: Path, class_name: str) -> bytes | None:
    """Return what an adapter's configuration says beyond the roles, as JSON; None if all of it is the default."""
    configuration: Any = json.loads((folder / CONFIG).read_text("utf-8"))
    defaults = {"init_lora_weights": True, "lora_dropout": 0.0, "task_type": task_of(class_name), "vera_dropout": 0.0}
    settings = {key: configuration.get(key, defaults[key]) for key in BESIDE_THE_ROLES}
    kept = {key: value for key, value in settings.items() if value != defaults[key]}
    return (json.dumps(kept, indent=2, sort_keys=True) + "\n").encode() if kept else None


def read_config(folder: Path) -> AdapterConfig:
    """Read and check ``adapter_config.json``. Raises CheckpointError if it is invalid; UnsupportedError."""
    path = folder / CONFIG
    require_own_file(path)
    try:
        configuration: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as fault:
        raise CheckpointError(
            f"{folder} contains an adapter without its {CONFIG}",
            hint="Copy that file there; it has rank, alpha and targets.",
        ) from fault
    except (OSError, ValueError, RecursionError) as fault:
        raise CheckpointError(f"cannot read {path}: {fault}", hint="Save the adapter again.") from fault
    if not isinstance(configuration, dict):
        raise CheckpointError(f"{path} is not a JSON object", hint="Save the adapter again.")
    _refuse(path, configuration)
    try:
        return _config(configuration)
    except (TypeError, ValueError, AttributeError, re.error) as fault:
        raise CheckpointError(f"{path} has an invalid value: {fault}", hint="Save the adapter again.") from fault


def _refuse(path: Path, configuration: dict[str, Any]) -> None:
    """Refuse by name what PEFT supports but a pack cannot store."""
    kind = configuration.get("peft_type")
    if kind not in ("LORA", "VERA"):
        raise UnsupportedError(
            f"{path}: a pack can only store LoRA and VeRA adapters, not {kind}",
            hint="Train with a LoraConfig or a VeraConfig.",
        )
    start = configuration.get("init_lora_weights")
    if not any(start is known or (isinstance(start, str) and start == known) for known in _KEEPS_THE_BASE):
        raise UnsupportedError(
            f"{path}: init_lora_weights={start!r} changed the weights of the base",
            hint="Save with path_initial_model_for_weight_conversion, which converts it to a plain LoRA adapter.",
        )
    known = _SAYS_NOTHING_OF_THE_WEIGHTS | _READ | _OF_AN_INITIALISATION
    carried = {key for key, value in configuration.items() if key in known or not value}
    for key in sorted(configuration.keys() - carried):
        raise UnsupportedError(
            f"{path}: a pack cannot store PEFT's {key}", hint=f"Train without {key}, or pack merged weights."
        )


def _config(configuration: dict[str, Any]) -> AdapterConfig:
    def names(key: str) -> str | tuple[str, ...]:
        value = configuration.get(key) or ()
        return value if isinstance(value, str) else tuple(map(str, value))

    for pattern in (*(configuration.get("rank_pattern") or {}), *(configuration.get("alpha_pattern") or {})):
        re.compile(pattern)
    vera = configuration["peft_type"] == "VERA"
    rank = int(configuration["r"]) if "r" in configuration else 256 if vera else 8
    return AdapterConfig(
        rank=rank,
        alpha=float(rank if vera else configuration.get("lora_alpha", 8)),
        scaling="rslora" if configuration.get("use_rslora") else "lora",
        magnitude=bool(configuration.get("use_dora")),
        targets=names("target_modules"),
        excluded=names("exclude_modules"),
        some_layers=configuration.get("layers_to_transform") not in (None, []),
        saved=tuple(configuration.get("modules_to_save") or ()),
        base=str(configuration.get("base_model_name_or_path") or ""),
        projection_key=int(configuration.get("projection_prng_key") or 0) if vera else None,
        ranks={key: int(value) for key, value in (configuration.get("rank_pattern") or {}).items()},
        alphas={key: float(value) for key, value in (configuration.get("alpha_pattern") or {}).items()},
    )


def _by_pattern(patterns: dict[str, _N], module: str, default: _N) -> _N:
    """Return a module's value by PEFT's rule: the first pattern that matches its name, or the end after a point."""
    return next((value for key, value in patterns.items() if fullmatch(rf"(.*\.)?({key})", module)), default)


def _matches(names: str | tuple[str, ...], module: str) -> bool:
    if isinstance(names, str):
        return fullmatch(names, module)
    return any(module == name or module.endswith(f".{name}") for name in names)
