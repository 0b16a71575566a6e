"""What ``adapter_config.json`` says, as far as a pack can carry it; all else is refused by name."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lottapack.errors import CheckpointError, UnsupportedError
from lottapack.files.links import require_own_file

CONFIG = "adapter_config.json"

_SAYS_NOTHING_OF_THE_WEIGHTS = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
}
"""How the adapter was trained or is found. (Dropout is off in a model that is used.)"""

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
    "r",
    "rank_pattern",
    "target_modules",
    "use_dora",
    "use_rslora",
}
BESIDE_THE_ROLES = ("init_lora_weights", "lora_dropout", "task_type")
"""What a pack keeps of a configuration as it is: no role says it."""

_TASKS = {"ForCausalLM": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS"}
"""PEFT's tasks by the end of a class's name."""

_KEEPS_THE_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that leave the base's weights as they are."""

_OF_AN_INITIALISATION = {"corda_config", "eva_config", "lora_ga_config"}
"""Settings of initialisations; which one was used is said elsewhere."""


_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """An adapter that a pack can carry. ``targets`` and ``excluded``: a regular expression, or ends of names."""

    rank: int
    alpha: float
    scaling: str
    magnitude: bool
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    some_layers: bool
    saved: tuple[str, ...]
    base: str
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)

    def rank_of(self, module: str) -> int:
        """The rank of a module's adapter."""
        return _by_pattern(self.ranks, module, self.rank)

    def alpha_of(self, module: str) -> float:
        """The alpha of a module's adapter."""
        return _by_pattern(self.alphas, module, self.alpha)

    def is_saved(self, module: str) -> bool:
        """Whether a module is trained in full: PEFT compares the ends of names, points or not."""
        return module.endswith(self.saved)

    def targeted(self, modules: Iterable[str]) -> set[str]:
        """Those of the modules that should have an adapter; none where that cannot be said from the names alone."""
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
    """PEFT's task that goes with a class of transformers, or None."""
    return next((task for end, task in _TASKS.items() if class_name.endswith(end)), None)


def said_beside_the_roles(folder: Path, class_name: str) -> bytes | None:
    """What an adapter's configuration says and no role does, as JSON; None where all of it is the class's default."""
    said: Any = json.loads((folder / CONFIG).read_text("utf-8"))
    defaults = {"init_lora_weights": True, "lora_dropout": 0.0, "task_type": task_of(class_name)}
    found = {key: said.get(key, defaults[key]) for key in BESIDE_THE_ROLES}
    kept = {key: value for key, value in found.items() if value != defaults[key]}
    return (json.dumps(kept, indent=2, sort_keys=True) + "\n").encode() if kept else None


def read_config(folder: Path) -> AdapterConfig:
    """Read and check ``adapter_config.json``. Raises CheckpointError for a broken one, UnsupportedError."""
    path = folder / CONFIG
    require_own_file(path)
    try:
        said: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as fault:
        raise CheckpointError(
            f"{folder} holds an adapter without its {CONFIG}", hint="Copy it there: it says rank, alpha and targets."
        ) from fault
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{path} cannot be read: {fault}") from fault
    if not isinstance(said, dict):
        raise CheckpointError(f"{path} is not an object")
    _refuse(path, said)
    try:
        return _config(said)
    except (TypeError, ValueError, AttributeError, re.error) as fault:
        raise CheckpointError(f"{path} has a value of another form than PEFT writes: {fault}") from fault


def _refuse(path: Path, said: dict[str, Any]) -> None:
    """Name what PEFT offers and a pack cannot carry."""
    kind = said.get("peft_type")
    if kind != "LORA":
        raise UnsupportedError(f"{path}: a pack carries LoRA adapters, not {kind}", hint="Train with a LoraConfig.")
    start = said.get("init_lora_weights")
    if not any(start is known or (isinstance(start, str) and start == known) for known in _KEEPS_THE_BASE):
        raise UnsupportedError(
            f"{path}: init_lora_weights={start!r} changed the weights of the base",
            hint="Save with path_initial_model_for_weight_conversion, which makes a plain LoRA adapter of it.",
        )
    known = _SAYS_NOTHING_OF_THE_WEIGHTS | _READ | _OF_AN_INITIALISATION
    carried = {key for key, value in said.items() if key in known or not value}
    for key in sorted(said.keys() - carried):
        raise UnsupportedError(
            f"{path}: a pack cannot carry PEFT's {key}", hint=f"Train without {key}, or pack merged weights."
        )


def _config(said: dict[str, Any]) -> AdapterConfig:
    def names(key: str) -> str | tuple[str, ...]:
        value = said.get(key) or ()
        return value if isinstance(value, str) else tuple(map(str, value))

    for pattern in (*(said.get("rank_pattern") or {}), *(said.get("alpha_pattern") or {})):
        re.compile(pattern)
    return AdapterConfig(
        rank=int(said["r"]) if "r" in said else 8,
        alpha=float(said.get("lora_alpha", 8)),
        scaling="rslora" if said.get("use_rslora") else "lora",
        magnitude=bool(said.get("use_dora")),
        targets=names("target_modules"),
        excluded=names("exclude_modules"),
        some_layers=said.get("layers_to_transform") not in (None, []),
        saved=tuple(said.get("modules_to_save") or ()),
        base=str(said.get("base_model_name_or_path") or ""),
        ranks={key: int(value) for key, value in (said.get("rank_pattern") or {}).items()},
        alphas={key: float(value) for key, value in (said.get("alpha_pattern") or {}).items()},
    )


def _by_pattern(patterns: dict[str, _N], module: str, default: _N) -> _N:
    """PEFT's rule: the first pattern that matches the end of the name, after a point or from its start."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _matches(names: str | tuple[str, ...], module: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)
