"""Translate PEFT's names of an adapter's tensors, from a file or a state_dict, to names in the model."""

import re
from collections.abc import Iterable
from pathlib import Path

from lottapack.arch.skeleton import plain_name
from lottapack.errors import CheckpointError
from lottapack.format import recipe

_PREFIX = "base_model.model."
_ADAPTER = re.compile(
    r"\.(?:(lora_A|lora_B|lora_magnitude_vector)\.(?!weight$)([^.]+)\.weight|"
    r"(lora_embedding_[AB]|lora_magnitude_vector|vera_lambda_[bd])\.(?!weight$)([^.]+))$"
)
"""A part of an adapter that has the adapter's own name, which save_pretrained() omits: ``q.lora_A.default.weight``."""

_SAVED = re.compile(r"\.modules_to_save\.([^.]+)\.")


def names_of(folder: Path, keys: Iterable[str]) -> dict[str, str]:
    """Return each tensor's name without what wrappers, PEFT's layers and names of adapters add to it.

    Omits the copies that PEFT keeps of modules trained in full, and the base's recipe. ``folder``: for errors. Raises
    CheckpointError for several adapters.
    """
    adapters: set[str] = set()

    def adapter(match: "re.Match[str]") -> str:
        adapters.add(match[2] or match[4])
        return f".{match[1]}.weight" if match[1] else f".{match[3]}"

    def saved(match: "re.Match[str]") -> str:
        adapters.add(match[1])
        return "."

    names, present = {}, set(keys := list(keys))
    for key in keys:
        if ".modules_to_save." in key and key.replace(".modules_to_save.", ".") in present:
            continue  # with bias="all", PEFT saves the biases of such a module twice
        name = plain_name(key)
        before, prefix, after = name.partition(_PREFIX)
        if prefix and not before.replace("module.", ""):
            name = after
        name = _SAVED.sub(saved, _ADAPTER.sub(adapter, name)).replace(".base_layer.", ".")
        if ".original_module." not in name and name.rpartition(".")[2] != recipe.BUFFER:
            names[key] = name
    if len(adapters) > 1:
        raise CheckpointError(
            f"{folder} contains {len(adapters)} adapters: {', '.join(sorted(adapters))}",
            hint="A pack holds one. Save it alone: peft_model.save_pretrained(FOLDER, selected_adapters=[NAME]).",
        )
    return names
