"""What measure.py changes in a model or its training, beside rank and learning rate."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lottapack


def init(name: str | None) -> dict[str, Any]:
    """Arguments of scaffold() for a kind of backbone."""
    if name is None:
        return {}
    if name in MORE_INITS:
        return MORE_INITS[name]
    from initialisations import FAMILIES  # needs SciPy

    return FAMILIES[name]


WIDTHS_IN = {64: 0, 784: 0, 512: 1, 256: 2, 128: 3}
"""The number of a layer of the perceptron by its inputs."""

MORE_INITS: dict[str, dict[str, Any]] = {
    "orthogonal (hadamard)": {"distribution": "hadamard", "init": "orthonormal"},
    "hadamard, lecun": {"distribution": "hadamard"},
    "normal8": {"distribution": "normal8"},
    "normal4": {"distribution": "normal4"},
    "normal2": {"distribution": "normal2"},
    "lecun, halved": {"init": lambda _, d_in: 0.5 * d_in**-0.5},
    "lecun, doubled": {"init": lambda _, d_in: 2 * d_in**-0.5},
    "lecun, falling with depth": {"init": lambda _, d_in: (2 / (1 + WIDTHS_IN[d_in]) / d_in) ** 0.5},
    "lecun, growing with depth": {"init": lambda _, d_in: ((1 + WIDTHS_IN[d_in]) / 2 / d_in) ** 0.5},
}


class Change:
    """Ordinary training; subclasses change parts of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def before(self, step: int, progress: float) -> None:
        """Called before each step; ``progress`` grows from 0 to 1."""

    def outputs(self, model: nn.Module) -> Callable[..., Any]:
        """What is tested after training."""
        return model


class Ensemble(Change):
    """Each step on the next of the scaffolds; tested by the mean of their probabilities."""

    def before(self, step: int, progress: float) -> None:  # noqa: ARG002
        names = list(lottapack.nn.scaffolds_of(self.model))
        lottapack.switch(self.model, names[step % len(names)])

    def outputs(self, model: nn.Module) -> Callable[..., Any]:
        def mean(x: Tensor) -> Tensor:
            found = []
            for name in lottapack.nn.scaffolds_of(model):
                with lottapack.switch(model, name):
                    found.append(model(x).softmax(-1))
            return torch.stack(found).mean(0)

        lottapack.switch(model, "default")
        return mean


class Contradiction(Change):
    """Three tasks in turn that call each digit by another name; each has its own scaffold, if the model has three.

    Each image is tested in one of the three.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.task = 0
        self.hook = model.register_forward_hook(lambda _, __, logits: logits.roll(self.task, 1))

    def before(self, step: int, progress: float) -> None:  # noqa: ARG002
        self._choose(step % 3)

    def _choose(self, task: int) -> None:
        self.task, names = task, list(lottapack.nn.scaffolds_of(self.model))
        if len(names) > 1:
            lottapack.switch(self.model, names[task])

    def outputs(self, model: nn.Module) -> Callable[..., Any]:
        self.hook.remove()

        def mixed(x: Tensor) -> Tensor:
            found = []
            for task in range(3):
                self._choose(task)
                found.append(model(x).roll(task, 1))
            self._choose(0)
            images = torch.arange(len(x))
            return torch.stack(found)[images % 3, images]

        return mixed


class Progressive(Change):
    """The first adapter freezes after half of the steps, the last at their end (FreezeOut)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.layers = [layer for layer in model.modules() if isinstance(layer, lottapack.nn.AdapterLayer)]

    def before(self, step: int, progress: float) -> None:  # noqa: ARG002
        for number, layer in enumerate(self.layers):
            if progress >= 0.5 + 0.5 * number / len(self.layers):
                for parameter in layer.parameters(recurse=False):
                    parameter.requires_grad_(False).grad = None

    def outputs(self, model: nn.Module) -> Callable[..., Any]:
        for layer in self.layers:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(True)  # as the recipe has it
        return model


class Redrawn(Change):
    """Another backbone in each step or epoch."""

    def __init__(self, model: nn.Module, every: Any, steps: int) -> None:
        super().__init__(model)
        self.control, self.steps = lottapack.nn.RedrawBackbone(model, every), steps

    def before(self, step: int, progress: float) -> None:  # noqa: ARG002
        self.control.step()
        if step % self.steps == 0:
            self.control.epoch()


CHANGES: dict[str, Callable[[nn.Module, int], Change]] = {
    "ensemble": lambda model, _: Ensemble(model),
    "three tasks": lambda model, _: Contradiction(model),
    "progressive": lambda model, _: Progressive(model),
    "redraw each step": lambda model, steps: Redrawn(model, "step", steps),
    "redraw each epoch": lambda model, steps: Redrawn(model, "epoch", steps),
    "zero": lambda model, _: Change(model),
}
"""By name: from the model, and the steps of an epoch."""


@torch.no_grad()
def start_with_inputs(model: nn.Module, images: Tensor) -> None:
    """Give each A the first principal directions of its layer's inputs and leave its norm (EVA, arXiv 2410.07170)."""

    def put(layer: lottapack.nn.AdapterLayer, given: tuple[Tensor, ...]) -> None:
        directions = torch.linalg.eigh(given[0].t().cov()).eigenvectors.t().flip(0)[: len(layer.lora_A)]
        layer.lora_A.copy_(directions * layer.lora_A.norm() / directions.norm())

    hooks = [m.register_forward_pre_hook(put) for m in model.modules() if isinstance(m, lottapack.nn.AdapterLayer)]
    model.eval()(images)
    for hook in hooks:
        hook.remove()


def ranks_by_gradient(model: nn.Module, images: Tensor, labels: Tensor, seed: int, rank: int) -> dict[str, int]:
    """Ranks that cost as much as one rank for all, given to the largest singular values of the first gradient.

    A direction's worth is its squared singular value over what a rank of its layer costs.
    """
    lottapack.scaffold(model, seed=seed, rank=rank)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, lottapack.nn.AdapterLayer)}
    for layer in layers.values():
        nn.init.normal_(layer.lora_B, std=1e-3)
    costs = {name: sum(layer.backbone.shape) for name, layer in layers.items()}
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            inputs[name], outputs[name] = given[0].detach(), out
            out.retain_grad()

        return hook

    for name, layer in layers.items():
        layer.register_forward_hook(keep(name))
    nn.functional.cross_entropy(model(images), labels).backward()
    worth = []
    for name in layers:
        gradient = outputs[name].grad
        assert gradient is not None
        values = torch.linalg.svdvals(gradient.t() @ inputs[name])
        worth += [(float(value**2) / costs[name], name) for value in values]
    left, ranks = rank * sum(costs.values()), dict.fromkeys(layers, 1)
    left -= sum(costs.values())
    for _, name in sorted(worth, reverse=True):
        if costs[name] <= left and ranks[name] < min(layers[name].backbone.shape):
            ranks[name] += 1
            left -= costs[name]
    return ranks
