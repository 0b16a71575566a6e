"""The models of each library for sweep.py: how they are named, built small, and what may be given to them."""

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from own_modules import MODULES, Own
from torch import nn

import lottapack

Inputs = dict[str, Any]
Build = Callable[[bool], nn.Module]
"""Builds a model; the argument is whether it is to be packed, or only looked at."""

FEWER = (
    (r"(num|n|encoder|decoder|text|vision)?_?(hidden_)?(encoder_|decoder_)?(layers?|blocks)$", 2),
    (r"depths$", 1),
)
SHORTER = (
    (r"vocab(ulary)?_size$", 64),
    (r"(num_experts|num_local_experts|n_routed_experts)$", 4),
    (r"(num_experts_per_tok|top_k_experts)$", 2),
    (r"(max_position_embeddings|n_positions|max_source_positions|max_target_positions)$", 64),
    (r"(token|mask|image|audio|video)_(id|index)$", 3),
)
NARROWER = (
    (r"(hidden_size|d_model|n_embd|embed_dim|embedding_size|dim|model_dim)$", 32),
    (r"(intermediate_size|ffn_dim|d_ff|n_inner|mlp_dim|ffn_hidden_size|moe_intermediate_size|feed_forward)$", 48),
    (r"image_size$", 32),
    (r"patch_size$", 8),
    (r"state_size$", 4),
)
HEADS = (
    (r"(num_key_value_heads|num_kv_heads)$", 2),
    (r"(attention_heads|num_heads|n_head|n_heads|encoder_attention_heads|decoder_attention_heads)$", 4),
    (r"(head_dim|d_kv|qk_nope_head_dim|qk_rope_head_dim|v_head_dim)$", 8),
)
Rules = tuple[tuple[str, int], ...]
"""A pattern for names of a configuration's fields, and the largest number for them."""

STYLES: tuple[Rules, ...] = (
    (*FEWER, *SHORTER, *NARROWER, *HEADS),
    (*FEWER, *SHORTER, *NARROWER),
    (*SHORTER, *NARROWER, *HEADS),
    (*FEWER, *SHORTER),
    FEWER,
    SHORTER,
    (),
)
"""How a configuration is made smaller: not every one stays whole when all of its fields shrink."""

try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:  # its compiled part is of another build of torch
    for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    import torchvision_without_ops  # noqa: F401


@dataclass(frozen=True)
class Case:
    """A model of a library.

    ``prepared``: functions that give what builds it, to try in turn; ``attempts(model)``: inputs to try in turn;
    ``rare``: whether it comes after the others.
    """

    library: str
    name: str
    prepared: Sequence[Callable[[], Build]]
    attempts: Callable[[nn.Module], Iterator[Inputs]]
    rare: bool = False


def small_numbers(fields: dict[str, Any], rules: Rules = STYLES[0]) -> dict[str, Any]:
    """Smaller numbers, also in lists, for those fields whose names say what they are."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        several = isinstance(value, list | tuple) and bool(value)
        if all(type(one) is int and one > 0 for one in (value if several else [value])):
            small = next((small for pattern, small in rules if re.search(pattern, name)), None)
            if small is not None and (max(value) if several else value) > small:
                values[name] = [small] * len(value) if several else small
        elif "drop" in name and isinstance(value, float):
            values[name] = 0.0
    return values


def shrunk(kind: Any, rules: Rules, depth: int = 0) -> Any:
    """A configuration of transformers with small numbers."""
    found = kind()
    values = small_numbers(found.to_dict(), rules)
    if getattr(found, "pad_token_id", 0) is None or getattr(found, "pad_token_id", 0) >= 64:
        values["pad_token_id"] = 0  # without one, a batch of two cannot be classified
    for name in getattr(kind, "sub_configs", {}):
        sub = getattr(found, name, None)
        if depth < 2 and hasattr(sub, "to_dict"):
            values[name] = shrunk(type(sub), rules, depth + 1)
    return kind(**values)


USUAL = (
    *("Model", "LMHeadModel", "ForCausalLM", "ForConditionalGeneration", "ForMaskedLM"),
    *("ForSequenceClassification", "ForImageClassification", "ForCTC"),
)
"""How the names of most classes of transformers end."""


def of_transformers(names: list[str]) -> Iterator[Case]:
    """Every class that has a configuration, heads of one family included."""
    if importlib.util.find_spec("transformers") is None:
        return
    import transformers
    from zoo_attempts import attempts

    def prepared(kind: Any, rules: Rules) -> Build:
        config = shrunk(kind.config_class, rules)
        return lambda _: kind(config)

    for name in names or sorted(dir(transformers)):
        if name.endswith("PreTrainedModel"):
            continue
        kind = getattr(transformers, name, None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
            continue
        if kind.config_class and kind.forward is not transformers.PreTrainedModel.forward:
            yield Case(
                "transformers",
                name,
                [partial(prepared, kind, rules) for rules in STYLES],
                attempts,
                not name.endswith(USUAL),
            )


SMALL_TIMM = re.compile(r"atto|femto|pico|nano|tiny|mini|micro|_xs|_xxs|xxt|_s0|_b0|_t0|10t|small|18|26|_s\\b|050|_ti")
"""Words in the names of small models."""


def of_timm(names: list[str]) -> Iterator[Case]:
    """The two smallest architectures of each of timm's modules, by name, for pictures of 64 by 64 or of their size."""
    if importlib.util.find_spec("timm") is None:
        return
    import timm

    def prepared(name: str) -> Build:
        return lambda packs: lottapack.build("timm", name) if packs else timm.create_model(name)

    def images(model: nn.Module) -> Iterator[Inputs]:
        config: Any = model
        yield {"x": torch.randn(2, 3, 64, 64)}
        yield {"x": torch.randn(2, *config.pretrained_cfg.get("input_size", (3, 224, 224)))}

    def smallest() -> Iterator[str]:
        for module in timm.list_modules():
            yield from sorted(
                timm.list_models(module=module), key=lambda name: (SMALL_TIMM.search(name) is None, len(name), name)
            )[:2]

    for name in names or smallest():
        yield Case("timm", name, [partial(prepared, name)], images)


def of_diffusers(names: list[str]) -> Iterator[Case]:
    """Every model class of diffusers that takes an image or a latent, a step and a text."""
    if importlib.util.find_spec("diffusers") is None:
        return
    import diffusers

    def prepared(kind: Any, rules: Rules) -> Build:
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(kind.__init__).parameters.items()
            if parameter.default is not parameter.empty
        }
        values = small_numbers(defaults, rules)
        path = f"{kind.__module__}:{kind.__name__}"
        return lambda packs: lottapack.build("python", path, **values) if packs else kind(**values)

    def latents(model: nn.Module) -> Iterator[Inputs]:
        config: Any = model.config
        channels = config.get("in_channels", 4)
        takes = inspect.signature(model.forward).parameters
        text = torch.randn(1, 4, config.get("cross_attention_dim") or config.get("joint_attention_dim") or 32)
        for side in (8, 16, 32, 64):
            found = {
                "sample": torch.randn(1, channels, side, side),
                "hidden_states": torch.randn(1, channels, side, side),
            }
            found |= {
                "timestep": torch.tensor([1]),
                "encoder_hidden_states": text,
                "x": torch.randn(1, channels, side, side),
            }
            yield {name: value for name, value in found.items() if name in takes}

    for name in names or sorted(dir(diffusers)):
        kind = getattr(diffusers, name, None) if name.endswith(("Model", "ModelV", "Transformer2DModel")) else None
        if isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin) and kind is not diffusers.ModelMixin:
            yield Case("diffusers", name, [partial(prepared, kind, rules) for rules in STYLES], latents)


def of_own(names: list[str]) -> Iterator[Case]:
    """Modules written for this sweep."""

    def prepared(name: str) -> Build:
        return lambda packs: lottapack.build("python", "own_modules:Own", name=name) if packs else Own(name)

    def sequences(_: nn.Module) -> Iterator[Inputs]:
        yield {"x": torch.randn(2, 6, 8)}

    for name in names or MODULES:
        yield Case("own", name, [partial(prepared, name)], sequences)


LIBRARIES: dict[str, Callable[[list[str]], Iterator[Case]]] = {
    "transformers": of_transformers,
    "timm": of_timm,
    "diffusers": of_diffusers,
    "own": of_own,
}
