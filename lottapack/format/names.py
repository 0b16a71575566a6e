"""The names of parameters and of their tensors in the file: each name means one thing.

Spec: descriptor, section 3; container, section 5.
"""

import unicodedata
from collections.abc import Collection, Container, Iterable, Iterator
from itertools import chain

METADATA = "__metadata__"
"""The key of a safetensors header that is not a tensor."""

RECIPE = "lottapack_recipe"
"""The uint8 tensor that holds the recipe of a model in training."""

NAMESPACE = "lottapack"
"""The first part, before a point, of the names of the format's own tensors."""

ADAPTER_PARTS = ("lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out")
"""The tensors that an adapter may have, by their last names."""

WEIGHT = "weight"
"""The last name of most weights."""

BACKBONE = "backbone"
"""In a scaffolded model, the last name of an adapted layer's generated weight: ``weight`` names the adapted weight.

That of another parameter, such as ``gate_up_proj``, is ``gate_up_proj_backbone``.
"""


def name_fault(name: str, max_bytes: int = 1024) -> str | None:
    """Return what is wrong with a parameter's name, or None (spec: descriptor, section 3)."""
    if not name:
        return "the name is empty"
    plain = name.isascii()
    if (len(name) if plain else len(name.encode("utf-8", "surrogatepass"))) > max_bytes:
        return f"the name is longer than {max_bytes} bytes"
    if plain and name.isprintable() and "/" not in name and "\\" not in name:
        return None
    if any(unicodedata.category(character) in ("Cc", "Cs") or character in "/\\" for character in name):
        return "the name contains a control character, a slash or a backslash"
    return None


def clashes(
    parameters: Collection[str], derived: Iterable[tuple[str, str]], adapted: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield each name that would mean two things, once, and what these are.

    ``parameters``: their names. ``derived``: each tensor that does not have the name of its parameter, as (name,
    owner): those of adapters, codings and tables. ``adapted``: the parameters with adapters; each reserves the names of
    all parts of an adapter, because the layer in training has them as attributes.
    """
    yielded: set[str] = set()
    for name in parameters:
        if _is_reserved(name):
            yielded.add(name)
            yield name, "is reserved by the format, so a parameter cannot have this name"
    owners: dict[str, str] = {}
    prefixes = ((adapter_prefix(owner), owner) for owner in adapted)
    parts = ((prefix + part, owner) for prefix, owner in prefixes for part in ADAPTER_PARTS)
    for name, owner in chain(derived, parts):
        if owners.get(name) == owner:
            continue
        if name in owners or name in parameters:
            other = f"of {owners[name]}" if name in owners else f"the parameter {name}"
            if name not in yielded:
                yield name, f"would be both a tensor of {owner} and {other}"
            yielded.add(name)
        owners.setdefault(name, owner)


def adapter_prefix(parameter: str) -> str:
    """Return what stands before ``lora_A`` in the names of a parameter's adapter (spec: container, section 5)."""
    layer, point, leaf = parameter.rpartition(".")
    return f"{layer}{point}{leaf_prefix(leaf)}"


def leaf_prefix(leaf: str) -> str:
    """Return what stands before ``lora_A`` and ``backbone`` among a module's own names. A ``weight`` needs nothing."""
    return "" if leaf == WEIGHT else f"{leaf}_"


def parameter_of(key: str, parameters: Container[str]) -> str:
    """Return the name in the plain model, one of ``parameters``, of a tensor of the scaffolded one."""
    if key in parameters or not key.endswith(BACKBONE):
        return key
    before = key.removesuffix(BACKBONE)
    name = before[:-1] if before.endswith("_") else before + WEIGHT
    return name if name in parameters else key


def table_tensor(table_id: str) -> str:
    """Return the name of the tensor that holds a pack's own table."""
    return f"{NAMESPACE}.tables.{table_id}"


def file_tensor(name: str) -> str:
    """Return the name of the tensor that holds a file, without the suffix of its coding."""
    return f"{NAMESPACE}.files.{name}"


def _is_reserved(name: str) -> bool:
    first, last = name.partition(".")[0], name.rpartition(".")[2]
    return name == METADATA or first == NAMESPACE or last == RECIPE
