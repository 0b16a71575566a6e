"""Convert what transformers' ``save_pretrained`` writes: other names for some models, and experts one by one."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from lottapack.errors import CheckpointError


def converted(model: nn.Module, tensors: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors as the model holds them, by the rules that ``save_pretrained`` inverts.

    Args:
        model: a model of the saved class; it may be without weights.
        tensors: the tensors of the checkpoint. Those that no rule knows keep their names.
        own: the names of all tensors that the model may have, including adapters.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
    except ImportError:  # this version saves what the model has
        return dict(tensors)
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    shapes = {name: tensor.shape for name, tensor in model.state_dict(keep_vars=True).items()}
    found: dict[str, Tensor] = {}
    gathered: dict[str, Any] = {}
    for name in sorted(tensors, key=dot_natural_key):
        tensor = tensors[name]
        if not isinstance(tensor, Tensor):
            found[name] = tensor
            continue
        new, pattern = rename_source_key(name, renamings, converters)
        known = name in own and shapes.get(name, tensor.shape) == tensor.shape
        if known or new not in own:
            found[name] = tensor
        elif pattern is None:
            found[new] = tensor
        else:
            gathered.setdefault(new, deepcopy(by_pattern[pattern])).add_tensor(new, name, pattern, tensor)
    for new, rule in gathered.items():
        try:
            made = rule.convert(new, model=model, config=model.config)
        except (LookupError, RuntimeError, TypeError, ValueError) as fault:
            raise CheckpointError(
                f"cannot join {new} from its parts in the checkpoint: {fault}",
                hint="A part may be missing or have another size. Save the model again, or its state_dict: "
                "torch.save(model.state_dict(), FILE).",
            ) from fault
        found |= {name: part[0] if isinstance(part, list) else part for name, part in made.items()}
    return found
