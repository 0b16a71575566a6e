"""Walk through the modules of a model, as torch does but without a generator at each level of each module.

A load walks through its model a dozen times (decision 0082).
"""

from torch import nn


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return each module once, with its first name, in the order of ``Module.named_modules()``."""
    found = list[tuple[str, nn.Module]]()
    seen = set[nn.Module]()
    waiting = [("", model)]
    while waiting:
        name, module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        found.append((name, module))
        if module._modules:
            dot = f"{name}." if name else ""
            children = [(f"{dot}{key}", child) for key, child in module._modules.items() if child is not None]
            waiting += reversed(children)
    return found


def modules(model: nn.Module) -> list[nn.Module]:
    """Return each module once, in the order of ``Module.modules()``."""
    return [module for _, module in named_modules(model)]
