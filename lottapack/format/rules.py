"""Check without torch what an architecture may say (spec: architectures)."""

import re
from array import array
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from lottapack.errors import Problem
from lottapack.format.arguments import MAX_PATH, argument_problems, path_problems
from lottapack.format.torch_nn_classes import ARGUMENTS
from lottapack.strict_json.text import JsonText

MAX_CONFIG_VALUES = 100_000
"""The most values at all levels of a transformers configuration."""
MAX_TREE_DEPTH = 16
MAX_TREE_NODES = 10_000
_MOST_PROBLEMS = 1000
_SHORT = 512
"""The most bytes of a configuration of one module that is remembered."""
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
    "attribute_map",  # can rename another key to one of those above
    # What timm accepts, which transformers classes wrap.
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "feature_cls",
    "kwargs_filter",
    "model_cls",
    "no_jit",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_custom_load",
    "pretrained_filter_fn",
    "pretrained_strict",
    "scriptable",
)
"""Keys by which a configuration makes its library run code that is not its own, or fetch what they name."""
_FLOATS = re.compile(rb'(?<=[\[:,])\{"__float__":"(?:-?Infinity|NaN)"\}')
"""Matches only outside strings of canonical JSON, where a quotation mark has a backslash before it."""


def architecture_problems(family: str, class_name: str, config: JsonText) -> list[Problem]:
    """Return everything in an architecture that the format refuses. ``config``: an object."""
    check = _CHECKS.get(family)
    if check is not None and len(class_name) > MAX_PATH:
        message = f"has {len(class_name):,} characters; the format allows {MAX_PATH}"
        return [Problem("architecture", "architecture.class", message)]
    if check is None:
        known = ", ".join(_CHECKS)
        return [
            Problem("family", "architecture.family", f"unknown family {family[:100]!r}; it should be one of {known}")
        ]
    return check(class_name, config)


class _Children(NamedTuple):
    """Modules of one Sequential that are not checked yet: their indices and their offsets in the text."""

    where: str
    indices: "array[int]"
    begins: "array[int]"
    ends: "array[int]"


def _torch_nn(class_name: str, config: JsonText) -> list[Problem]:
    problems: list[Problem] = []
    levels: list[_Children] = []
    count = 0
    where = "architecture"
    while True:
        count += 1
        if len(levels) >= MAX_TREE_DEPTH or count > MAX_TREE_NODES:
            limit = f"at most {MAX_TREE_DEPTH} levels and {MAX_TREE_NODES:,} modules"
            return [*problems, Problem("architecture", where, f"the tree is too large; the format allows {limit}")]
        if class_name == "Sequential":
            children, faults = _children(where, config)
            problems += faults
            levels.append(children)
        elif class_name not in ARGUMENTS:
            message = f"the format does not allow the module {class_name[:100]!r}"
            problems.append(Problem("architecture", f"{where}.class", message))
        elif len(config) > _SHORT or not _is_right(class_name, config.text()):
            problems += _arguments(where, class_name, config)
        while levels and not levels[-1].indices:
            levels.pop()
        if not levels or len(problems) >= _MOST_PROBLEMS:
            return problems
        parent, indices, begins, ends = levels[-1]
        where = f"{parent}[{indices.pop()}]"
        node = dict(JsonText(config.data, begins.pop(), ends.pop()).members())
        class_name, config = node["class"].value(), node["config"]


def _children(where: str, config: JsonText) -> tuple[_Children, list[Problem]]:
    where = f"{where}.config"
    children = _Children(f"{where}.children", array("I"), array("Q"), array("Q"))
    members = dict(islice(config.members(), 2))
    if members.keys() != {"children"} or not members["children"].is_array:
        return children, [Problem("architecture", where, "a Sequential should have exactly a list of children")]
    problems: list[Problem] = []
    names: set[str] = set()
    for index, item in enumerate(members["children"].items()):
        if len(problems) >= _MOST_PROBLEMS:
            break
        place = f"{children.where}[{index}]"
        node = dict(islice(item.members(), 4)) if item.is_object else {}
        if node.keys() != {"name", "class", "config"}:
            problems.append(Problem("architecture", place, "a child should have exactly name, class and config"))
            continue
        name = node["name"].value() if node["name"].is_string else ""
        if not name or "." in name or name in names:
            problems.append(
                Problem(
                    "architecture", f"{place}.name", "a child's name should be unique, not empty and without points"
                )
            )
        elif not node["class"].is_string or not node["config"].is_object:
            problems.append(Problem("architecture", place, "class should be a string and config an object"))
        else:
            names.add(name)
            for places, value in zip(children[1:], (index, item.begin, item.end), strict=True):
                places.append(value)
    return children, problems


@lru_cache(maxsize=1024)
def _is_right(class_name: str, config: bytes) -> bool:
    """Return whether a module has its arguments. Most modules of a model are like others."""
    return not _arguments("", class_name, JsonText(config))


def _arguments(where: str, class_name: str, config: JsonText) -> list[Problem]:
    expected = set(ARGUMENTS[class_name])
    given = dict(islice(config.members(), len(expected) + 1))
    if expected != given.keys():
        wrong = ", ".join(sorted(key[:100] for key in expected ^ given.keys()))
        return [
            Problem(
                "architecture",
                f"{where}.config",
                f"{class_name} should have exactly its own arguments; missing or unknown: {wrong}",
            )
        ]
    return [
        Problem(
            "architecture",
            f"{where}.config.{name}",
            "an argument should be a number, boolean, string, null or array of integers",
        )
        for name, value in given.items()
        if value.is_object or (value.is_array and not value.is_integers)
    ]


def _transformers(class_name: str, config: JsonText) -> list[Problem]:
    problems: list[Problem] = []
    if not (class_name.isascii() and class_name.isidentifier()) or class_name.startswith("_"):
        problems.append(Problem("architecture", "architecture.class", "is not a valid name of a model class"))
    if sum(1 for _ in islice(config.every_key(), MAX_CONFIG_VALUES + 1)) > MAX_CONFIG_VALUES:
        message = f"has more than {MAX_CONFIG_VALUES:,} values"
        return [*problems, Problem("architecture", "architecture.config", message)]
    for key, way in _without_floats(config).every_key():
        if is_refused_key(key) and len(problems) < _MOST_PROBLEMS:
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in (*way, key))
            where = f"architecture.config{''.join(steps)}"
            problems.append(Problem("architecture", where, "a pack cannot set this key"))
    return problems


def is_refused_key(key: str) -> bool:
    """Return whether no configuration of transformers in a pack may have a key."""
    return key.startswith("_") or key in _REFUSED_KEYS


def _without_floats(config: JsonText) -> JsonText:
    """Return a configuration without objects that stand for NaN or infinity, because their one key is not a setting."""
    text = config.text()
    return JsonText(_FLOATS.sub(b"null", text)) if b'"__float__"' in text else config


def _timm(class_name: str, config: JsonText) -> list[Problem]:
    problems = []
    if not (class_name.isascii() and class_name.isidentifier()) or class_name.startswith("_"):
        problems.append(Problem("architecture", "architecture.class", "is not a valid name of a timm model"))
    return problems + argument_problems("architecture.config", config, _loads_something)


def _loads_something(key: str) -> bool:
    """Return whether an argument could make timm read files or the network, wrap the model, or change its builder."""
    return key.startswith(("_", "pretrained")) or key in _REFUSED_BY_TIMM


def _python(class_name: str, config: JsonText) -> list[Problem]:
    return path_problems("architecture.class", class_name) + argument_problems("architecture.config", config, None)


_CHECKS: dict[str, Callable[[str, JsonText], list[Problem]]] = {
    "torch.nn": _torch_nn,
    "transformers": _transformers,
    "timm": _timm,
    "python": _python,
}
FAMILIES = tuple(_CHECKS)
