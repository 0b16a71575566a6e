"""Controls for the question whether training uses the backbone: another one during training, none, or a trained one."""

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.noted import noted
from lottapack.errors import ScaffoldError, UnsupportedError
from lottapack.format.names import ADAPTER_PARTS, adapter_prefix
from lottapack.format.recipe import Recipe
from lottapack.nn.any_module import adapter_of, numbers_of
from lottapack.nn.attach import recipe_of
from lottapack.nn.generated_layer import held_as
from lottapack.nn.generating import fill_any
from lottapack.nn.layers import AdapterLayer
from lottapack.nn.scales import deviation


class RedrawBackbone:
    """Draw another backbone again and again during training, as a control.

    A model that uses its backbone gets worse by that, and its betas fall. In a loop of your own, call ``step()`` before
    each step or ``epoch()`` before each epoch; both are safe to call, and `every` decides which one draws.

    Args:
        model: from scaffold(), with its backbone in memory.
        every: ``"step"`` or ``"epoch"``.

    Raises:
        ScaffoldError: `every` is something else.
        CheckpointError: the model has no recipe.
        UnsupportedError: a backbone is virtual, or torch drew it.

    Source:
        LottaLoRA (arXiv 2604.08749), the resampled scaffold. The numbers are those of the seeds after the model's own.

    Examples:
        >>> model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4)), seed=42, rank=2)
        >>> before = model[0].backbone.clone()
        >>> control = lottapack.nn.RedrawBackbone(model, every="step")
        >>> control.step()
        >>> torch.equal(model[0].backbone, before)
        False
        >>> control.restore()
        >>> torch.equal(model[0].backbone, before)
        True
    """

    def __init__(self, model: nn.Module, every: Literal["step", "epoch"] = "step") -> None:
        if every not in ("step", "epoch"):
            raise ScaffoldError(f"every={every!r}: choose step or epoch", hint='The default is "step".')
        _require_own(model)
        self._model, self.every, self.drawn = model, every, 0

    def step(self) -> None:
        """Draw another backbone if it is due at each step."""
        if self.every == "step":
            self._draw(self.drawn + 1)

    def epoch(self) -> None:
        """Draw another backbone if it is due at each epoch."""
        if self.every == "epoch":
            self._draw(self.drawn + 1)

    def restore(self) -> None:
        """Draw the model's own backbone again."""
        self._draw(0)

    @torch.no_grad()
    def _draw(self, number: int) -> None:
        for _, _, weight, source in _generated(self._model):
            fill_any(weight, replace(source, seed=(source.seed + number) % 2**64))
            torch.autograd.graph.increment_version(weight)  # a graph of the last step must not use the new values
        self.drawn = number

    def for_trainer(self) -> Any:
        """Return a callback for transformers' Trainer: ``Trainer(..., callbacks=[control.for_trainer()])``."""
        from transformers import TrainerCallback

        control = self

        class Redraw(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                control.step()

            def on_epoch_begin(self, *_: Any, **__: Any) -> None:
                control.epoch()

        return Redraw()

    def for_lightning(self) -> Any:
        """Return a callback for Lightning: ``Trainer(callbacks=[control.for_lightning()])``.

        A step is a batch there, so with accumulated gradients the backbone changes within one step of the optimizer.
        """
        control = self

        class Redraw(_lightning_base()):  # type: ignore[misc]
            def on_train_batch_start(self, *_: Any, **__: Any) -> None:
                control.step()

            def on_train_epoch_start(self, *_: Any, **__: Any) -> None:
                control.epoch()

        return Redraw()


def _lightning_base() -> type:
    """Return Lightning's Callback, or object if it is not installed, since Lightning calls hooks by name."""
    for package in ("lightning.pytorch", "pytorch_lightning"):
        if find_spec(package.partition(".")[0]):
            base: type = import_module(package).Callback
            return base
    return object


@torch.no_grad()
def zero_backbone_(model: nn.Module) -> nn.Module:
    """Set the backbone of each adapted layer to zero, as a control, and return the model.

    B then starts away from zero: if the product B A is zero too, no layer passes a gradient on. B is normal, with the
    deviation that gives B A the variance of the backbone that it replaces. Frozen weights without an adapter stay
    random.

    Args:
        model: from scaffold(), before training, with its backbone in memory.

    Raises:
        CheckpointError: the model has no recipe.
        ScaffoldError: an adapter is trained, which this would overwrite.
        UnsupportedError: a backbone is virtual, or torch drew it.

    Source:
        Decision 0060.

    Examples:
        >>> model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4)), seed=42, rank=2)
        >>> _ = lottapack.nn.zero_backbone_(model)
        >>> model[0].backbone.any().item(), model[0].lora_B.any().item()
        (False, True)
    """
    _require_own(model)
    found = list(_generated(model))
    products = {
        source.name: (product, float(weight.float().std()), source)
        for module, leaf, weight, source in found
        if (product := _Product.of(module, leaf, source)) is not None
    }
    for product, width, source in products.values():
        deviation_of_b = width / (product.scaling * float(product.random.float().std()) * product.rank**0.5)
        normal = rng.builtin("normal16")
        scale = rng.binary32(deviation_of_b / deviation(normal))
        fill_any(product.zero.data, rng.Source(source.seed, product.name, normal, scale, source.dtype))
    for _, _, weight, source in found:
        if source.name in products:
            weight.zero_()
    return model


class _Product(NamedTuple):
    """The factors of an adapter: the one that starts random, and the one that starts at zero, with its name."""

    random: Tensor
    zero: Tensor
    name: str
    rank: int
    scaling: float

    @classmethod
    def of(cls, module: nn.Module, leaf: str, source: rng.Source) -> "_Product | None":
        """Return that of a weight; None if it has no adapter. Raises UnsupportedError for another kind."""
        settings = module if isinstance(module, AdapterLayer) else numbers_of(module, leaf)
        if settings is None:
            return None
        parts = dict(zip(ADAPTER_PARTS, adapter_of(module, leaf), strict=True))
        lora_a, lora_b = parts["lora_A"], parts["lora_B"]
        if lora_a is None or lora_b is None or parts["lambda_b"] is not None:
            raise UnsupportedError(
                f"the adapter of {source.name} is not a product of two factors, so B cannot start away from zero",
                hint="Scaffold with a rank of at least 1 and without `vera`.",
            )
        first = bool(lora_a.any())
        random, zero = (lora_a, lora_b) if first else (lora_b, lora_a)
        if zero.any():
            raise ScaffoldError(
                f"the adapter of {source.name} is trained: neither of its factors is zero, as one is at first",
                hint="Call zero_backbone_() once, right after scaffold().",
            )
        name = adapter_prefix(source.name) + ("lora_B" if first else "lora_A")
        return cls(random, zero, name, lora_a.shape[-2], float(settings.scaling))


@torch.no_grad()
def put_backbone_(model: nn.Module, trained: nn.Module | Mapping[str, Tensor]) -> nn.Module:
    """Write trained weights into a scaffolded model, and return it: plain LoRA, to compare with.

    Adapted layers get them as their backbone; what is trained in full, and buffers, begin with them. Scaffold with
    ``beta=1.0``, since plain LoRA has no beta. pack() stores such a backbone in full: share the adapter with PEFT
    instead.

    Args:
        model: from scaffold(), with its backbone in memory.
        trained: the plain model with trained weights, or its state_dict.

    Raises:
        CheckpointError: the model has no recipe.
        ScaffoldError: a tensor is missing, or has another shape.
        UnsupportedError: a backbone is virtual, or torch drew it.

    Source:
        LoRA (arXiv 2106.09685).

    Examples:
        >>> trained = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4))
        >>> net = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4))
        >>> model = lottapack.scaffold(net, seed=42, rank=2, beta=1.0)
        >>> _ = lottapack.nn.put_backbone_(model, trained)
        >>> torch.equal(model[0].backbone, trained[0].weight)
        True
    """
    plan = _require_own(model)
    values = trained.state_dict() if isinstance(trained, nn.Module) else trained
    if not isinstance(values, Mapping):
        raise ScaffoldError(
            f"trained={reprlib.repr(trained)} is neither a model nor a state_dict", hint="Pass one of these."
        )
    targets = [(source.name, weight) for _, _, weight, source in _generated(model)]
    factors = {adapter_prefix(name) + part for name, _ in targets for part in ADAPTER_PARTS}
    targets += [(name, p.data) for name, p in model.named_parameters() if name not in factors]
    targets += [(name, buffer) for name, buffer in model.named_buffers() if name in plan.parameters]
    for name, target in targets:
        if name not in values:
            raise ScaffoldError(
                f"{name} is missing in the trained model", hint="Pass the same model as was scaffolded."
            )
        if values[name].shape != target.shape:
            raise ScaffoldError(
                f"{name}: shape {tuple(values[name].shape)} in the trained model, {tuple(target.shape)} here",
                hint="Pass the same model as was scaffolded.",
            )
    for name, target in targets:
        target.copy_(values[name])
    return model


def _generated(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor, rng.Source]]:
    """Yield each generated weight in memory once: its module, its name there, the tensor and its source.

    Tied weights are one tensor, until a cast makes a tensor of each.
    """
    seen: set[int] = set()
    for module in model.modules():
        for leaf, source in noted(module).sources.items():
            held = held_as(module, leaf)
            weight = module._buffers.get(held, module._parameters.get(held))
            if weight is not None and id(weight) not in seen:
                seen.add(id(weight))
                yield module, leaf, weight, source


def _require_own(model: nn.Module) -> Recipe:
    """Return the model's recipe. Raises UnsupportedError for weights that lottapack does not hold or did not draw."""
    plan = recipe_of(model)
    if plan.rng.id == rng.TORCH_CPU:
        raise UnsupportedError(
            "torch drew the backbone of this model, so lottapack cannot replace it",
            hint="Scaffold a new model with lottapack.scaffold(), which draws the backbone itself.",
        )
    for name, module in model.named_modules():
        if noted(module).virtual:
            raise UnsupportedError(
                f"the backbone of {name} is virtual, so it cannot be replaced",
                hint='Scaffold with backbone="materialised", the default.',
            )
    return plan
