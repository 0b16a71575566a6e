"""What an architecture may say, checked without torch (spec: architectures)."""

from collections.abc import Callable
from typing import Any

from lottapack.arch.arguments import argument_problems, path_problems
from lottapack.arch.torch_nn_classes import ARGUMENTS
from lottapack.errors import Problem

MAX_TREE_DEPTH = 16
MAX_TREE_NODES = 10_000
_MOST_PROBLEMS = 1000
_REFUSED_BY_TIMM = (
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "feature_cfg",
    "feature_cls",
    "features_only",
    "kwargs_filter",
    "model_cfg",
    "model_cls",
    "model_name",
    "no_jit",
    "out_indices",
    "pruned",
    "scriptable",
    "variant",
)
_REFUSED_KEYS = (
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "quantization_config",
    "use_kernels",
    "kernel_config",
    "attn_implementation",
    "experts_implementation",
)
"""Keys by which a configuration makes its library run code, or fetch what it names, that is not the library's own."""


def architecture_problems(family: str, class_name: str, config: dict[str, Any]) -> list[Problem]:
    """Everything about an architecture that the format refuses."""
    check = _CHECKS.get(family)
    if check is None:
        known = ", ".join(_CHECKS)
        return [Problem("family", "architecture.family", f"the family {family!r} is unknown; known: {known}")]
    return check(class_name, config)


def _torch_nn(class_name: str, config: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    nodes = [("architecture", class_name, config, 1)]
    count = 0
    while nodes:
        where, name, arguments, depth = nodes.pop()
        count += 1
        if depth > MAX_TREE_DEPTH or count > MAX_TREE_NODES:
            limit = f"at most {MAX_TREE_DEPTH} levels and {MAX_TREE_NODES:,} modules"
            return [*problems, Problem("architecture", where, f"the tree is too large: {limit}")]
        if name == "Sequential":
            children, faults = _children(where, arguments)
            problems += faults
            nodes += [(place, kind, inner, depth + 1) for place, kind, inner in children]
        elif name not in ARGUMENTS:
            problems.append(Problem("architecture", f"{where}.class", f"the module {name!r} is not in the list"))
        else:
            problems += _arguments(where, name, arguments)
    return problems


def _children(where: str, config: dict[str, Any]) -> tuple[list[tuple[str, str, dict[str, Any]]], list[Problem]]:
    where = f"{where}.config"
    children = config.get("children")
    if set(config) != {"children"} or not isinstance(children, list):
        return [], [Problem("architecture", where, "a Sequential has exactly a list of children")]
    found: list[tuple[str, str, dict[str, Any]]] = []
    problems: list[Problem] = []
    names: set[str] = set()
    for index, node in enumerate(children):
        if len(problems) >= _MOST_PROBLEMS:
            break
        place = f"{where}.children[{index}]"
        if not isinstance(node, dict) or set(node) != {"name", "class", "config"}:
            problems.append(Problem("architecture", place, "a child has exactly name, class and config"))
            continue
        name, kind, inner = node["name"], node["class"], node["config"]
        if not isinstance(name, str) or not name or "." in name or name in names:
            problems.append(
                Problem("architecture", f"{place}.name", "a child's name is unique, not empty, without points")
            )
        elif not isinstance(kind, str) or not isinstance(inner, dict):
            problems.append(Problem("architecture", place, "class is a string and config an object"))
        else:
            names.add(name)
            found.append((place, kind, inner))
    return found, problems


def _arguments(where: str, class_name: str, config: dict[str, Any]) -> list[Problem]:
    due, given = set(ARGUMENTS[class_name]), set(config)
    if due != given:
        wrong = ", ".join(sorted(due ^ given))
        return [
            Problem("architecture", f"{where}.config", f"{class_name} takes exactly its own arguments; wrong: {wrong}")
        ]
    return [
        Problem("architecture", f"{where}.config.{name}", "an argument is a number, boolean, string, null or integers")
        for name, value in config.items()
        if not _is_plain(value)
    ]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(type(item) is int for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _transformers(class_name: str, config: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    if not (class_name.isascii() and class_name.isidentifier()) or class_name.startswith("_"):
        problems.append(Problem("architecture", "architecture.class", "is not the name of a model class"))
    _look_for_keys("architecture.config", config, problems)
    return problems


def _look_for_keys(where: str, value: Any, problems: list[Problem]) -> None:
    """Depth first: canonical JSON is at most 64 deep, and can be wide. Stops when nobody would read on."""
    if isinstance(value, dict):
        for key, item in value.items():
            if (key.startswith("_") or key in _REFUSED_KEYS) and len(problems) < _MOST_PROBLEMS:
                problems.append(Problem("architecture", f"{where}.{key}", "a pack cannot set this key"))
            if isinstance(item, dict | list):
                _look_for_keys(f"{where}.{key}", item, problems)
    else:
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                _look_for_keys(f"{where}[{index}]", item, problems)


def _timm(class_name: str, config: dict[str, Any]) -> list[Problem]:
    problems = []
    if not (class_name.isascii() and class_name.isidentifier()) or class_name.startswith("_"):
        problems.append(Problem("architecture", "architecture.class", "is not the name of a timm model"))
    return problems + argument_problems("architecture.config", config, _loads_something)


def _loads_something(key: str) -> bool:
    """Whether an argument could make timm read files or the network, wrap the model, or change what builds it."""
    return key.startswith(("_", "pretrained")) or key in _REFUSED_BY_TIMM


def _python(class_name: str, config: dict[str, Any]) -> list[Problem]:
    return path_problems("architecture.class", class_name) + argument_problems("architecture.config", config, None)


_CHECKS: dict[str, Callable[[str, dict[str, Any]], list[Problem]]] = {
    "torch.nn": _torch_nn,
    "transformers": _transformers,
    "timm": _timm,
    "python": _python,
}
FAMILIES = tuple(_CHECKS)
