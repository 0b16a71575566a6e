"""Read an adapter's folder and the pack of its base as the recipe and tensors of one model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.errors import CheckpointError, UnsupportedError
from lottapack.files.links import require_own_file
from lottapack.files.paths import is_directory
from lottapack.folders import bases
from lottapack.folders.bits import same_bits
from lottapack.folders.reading import read_file
from lottapack.format.descriptor import FACTORS, LAMBDAS, Adapted, Constant, Seeded, Stored
from lottapack.format.factors import Factors, factors
from lottapack.format.files import ADAPTER, content, files_of
from lottapack.format.names import adapter_prefix
from lottapack.format.packfile import PackFile
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe, StoredRecipe, TiedRecipe
from lottapack.nn.kinds import inputs_first
from lottapack.nn.projections import shared_by_layers
from lottapack.nn.select import Entry
from lottapack.nn.skeletons import skeleton_of
from lottapack.peft import vera
from lottapack.peft.config import CONFIG, AdapterConfig, read_config, said_beside_the_roles
from lottapack.peft.names import names_of
from lottapack.weights.rebuild import constant_tensor, plain_tensor, stored_tensor

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PARTS = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_embedding_A": "lora_A",
    ".lora_embedding_B": "lora_B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".vera_lambda_b": "lambda_b",
    ".vera_lambda_d": "lambda_d",
}


def is_adapter(path: Path) -> bool:
    """Return whether a path is the folder of an adapter, possibly incomplete."""
    return is_directory(path) and any((path / name).is_file() for name in (CONFIG, *_WEIGHTS))


def read_adapter(folder: Path, base: Path | None) -> tuple[Recipe, dict[str, Tensor], dict[str, bytes]]:
    """Return the recipe and tensors of the base with the adapter, and the files of both.

    Args:
        folder: the folder that PEFT saved.
        base: the pack of the base, or a folder with it; by default the folder ``base`` beside the adapter, or
            what ``adapter_config.json`` names.

    Raises:
        CheckpointError: a file is missing or invalid, or the adapter belongs to another base.
        UnsupportedError: the adapter has something that a pack cannot store; the message names it.
    """
    config = read_config(folder)
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise CheckpointError(
            f"{folder} does not contain {_WEIGHTS[0]}", hint="Save with peft_model.save_pretrained(FOLDER)."
        )
    require_own_file(weights)
    tensors = read_file(weights)
    with _open_base(folder, config, base) as pack:
        around = _around_base(folder)
        if base is not None and around is not None:
            with bases.open_base(around / bases.FOLDER, around) as own_base:
                _require_same_base(folder, own_base, pack)
        files = {name: content(pack, name) for name in files_of(pack.descriptor)}
        settings = said_beside_the_roles(folder, pack.descriptor.architecture.class_)
        return *_Reader(folder, config, pack).read(tensors), {**files, **({ADAPTER: settings} if settings else {})}


def _around_base(folder: Path) -> Path | None:
    """Return the folder that contains the base: the adapter's own, or the one around it."""
    return next((parent for parent in (folder, folder.parent) if bases.holds_pack(parent / bases.FOLDER)), None)


def _open_base(folder: Path, config: AdapterConfig, given: Path | None) -> PackFile:
    if given is not None:
        return bases.open_base(given)
    around = _around_base(folder)
    if around is not None:
        return bases.open_base(around / bases.FOLDER, around)
    if config.base and bases.holds_pack(Path(config.base)):
        return bases.open_base(Path(config.base))
    reason = f"its base {config.base!r} does not contain a pack" if config.base else "it does not name its base"
    raise CheckpointError(
        f"cannot pack {folder}: {reason}. A pack generates its backbone from a seed, so it can only hold adapters on "
        "weights that lottapack drew, not on pretrained weights",
        hint="Share an adapter on pretrained weights as PEFT saved it. If lottapack.init_backbone_() drew the base, "
        "pass its pack as `base`; if lottapack is imported, PEFT saves that pack beside the adapter.",
    )


def _require_same_base(folder: Path, own: PackFile, given: PackFile) -> None:
    ours, theirs = own.descriptor.parameters, given.descriptor.parameters
    other = []
    for name, entry in ours.items():
        found = theirs.get(name)
        both = isinstance(entry, Seeded) and isinstance(found, Seeded)
        if found is None or (both and entry != found):
            other.append(name)
    if other:
        raise CheckpointError(
            f"{folder} was trained on another base than {given.path}: fingerprints differ for {len(other)} weights, "
            f"{', '.join(other[:5])}",
            hint=f"Its base is {own.path}. Leave out `base`.",
        )


@dataclass
class _Reader:
    """Adds an adapter's tensors to the recipe of its base."""

    folder: Path
    config: AdapterConfig
    pack: PackFile
    adapters: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    full: dict[str, Tensor] = field(default_factory=dict)
    whole: bool = False  # a state_dict of the whole model, not only what PEFT saves

    def read(self, tensors: Mapping[str, Any]) -> tuple[Recipe, dict[str, Tensor]]:
        merged = [name for name, entry in self.pack.descriptor.parameters.items() if isinstance(entry, Adapted)]
        if merged:
            raise CheckpointError(
                f"{self.pack.path} cannot be a base: it has adapters itself, such as on {merged[0]}",
                hint="A pack holds one adapter for each weight. Train on a base without adapters.",
            )
        model, entries, plan = skeleton_of(self.pack)
        tensors, projections = vera.split(tensors)
        self._sort(tensors, model, entries)
        self._give_projections(projections, entries)
        parameters, held = dict(plan.parameters), self._held()
        for module, parts in self.adapters.items():
            name = f"{module}.weight" if module else "weight"
            adapted, tensors_of_adapter = self._adapted(module, parts, entries[name], plan)
            parameters[name] = adapted
            held |= {adapter_prefix(name) + part: tensor for part, tensor in tensors_of_adapter.items()}
        for name, tensor in self.full.items():
            if self._is_trained(name, tensor):
                self._refuse_tied(name, plan)
                parameters[name] = StoredRecipe(group=entries[name].group, trained=True)
                held[name] = tensor
        if self.is_vera:
            parameters = shared_by_layers(parameters)
        return msgspec.structs.replace(plan, parameters=parameters), held

    @property
    def is_vera(self) -> bool:
        """Whether it is a VeRA adapter."""
        return self.config.projection_key is not None

    def _give_projections(self, projections: dict[str, Tensor], entries: dict[str, Entry]) -> None:
        """Give each layer of a VeRA adapter its part of the projections that all of them share."""
        if self.config.projection_key is None:
            return
        sides = {name: _sides(entries[f"{name}.weight" if name else "weight"]) for name in self.adapters}
        rank, most = self.config.rank, [max(side) for side in zip(*sides.values(), strict=True)]
        if not projections:
            projections = vera.drawn_by_peft(self.config.projection_key, rank, most[0], most[1])
        for name, (d_out, d_in) in sides.items():
            shapes = Factors((), d_out, d_in).shapes(rank)
            self.adapters[name] |= vera.of_layer(self.folder, projections, shapes)

    def _held(self) -> dict[str, Tensor]:
        """Return what the base stores besides generated weights."""
        cpu, held = torch.device("cpu"), {}
        for name, entry in self.pack.descriptor.parameters.items():
            if isinstance(entry, Stored):
                held[name] = stored_tensor(self.pack, name, cpu)
            elif isinstance(entry, Constant):
                held[name] = constant_tensor(entry, cpu)
        return held

    def _sort(self, tensors: Mapping[str, Any], model: nn.Module, entries: dict[str, Entry]) -> None:
        """Sort adapters by module, and tensors trained in full by name. Others belong to another base."""
        left = []
        plain = names_of(self.folder, tensors)
        self.whole = any(".base_layer." in key for key in tensors)
        split = {key: _split(name) for key, name in plain.items()}
        unknown = {_owner(*split[key]) for key in plain} - entries.keys()
        now = arch.family_of(model).names_in_model(model, unknown) if unknown else {}
        for key in plain:
            tensor, (name, part) = tensors[key], split[key]
            owner = now.get(_owner(name, part), _owner(name, part))
            if owner not in entries or not isinstance(tensor, Tensor):
                left.append(key)
            elif part:
                self.adapters.setdefault(owner.removesuffix("weight").removesuffix("."), {})[part] = tensor
            else:
                self.full[owner] = tensor
        if left:
            raise CheckpointError(
                f"{self.folder} belongs to another base than {self.pack.path}: its {len(left)} tensors such as "
                f"{left[0]} "
                "do not fit that base",
                hint="Pass the pack of the right base as `base`.",
            )
        weights = {name.removesuffix(".weight") for name, entry in entries.items() if entry.can_generate}
        missing = sorted(self.config.targeted(weights) - self.adapters.keys())
        if missing or not self.adapters:
            lacks = f"{missing[0]}, which it targets" if missing else "any layer"
            raise CheckpointError(
                f"{self.folder} lacks the adapter of {lacks}",
                hint="Save all of it with peft_model.save_pretrained().",
            )

    def _adapted(
        self, module: str, parts: dict[str, Tensor], entry: Entry, plan: Recipe
    ) -> tuple[AdaptedRecipe, dict[str, Tensor]]:
        """Return the recipe's entry of a weight with an adapter, and the adapter's tensors in the format's shapes."""
        config, drawn = self.config, plan.parameters[entry.name]
        self._refuse_tied(entry.name, plan)
        if not isinstance(drawn, SeededRecipe):
            raise UnsupportedError(
                f"{entry.name} has an adapter, but {self.pack.path} does not generate this weight",
                hint="A pack only holds adapters on generated weights. Leave this layer out of target_modules.",
            )
        if getattr(entry.module, "groups", 1) != 1:
            raise UnsupportedError(
                f"{module}: a pack cannot store PEFT's adapter of a grouped convolution", hint="Leave the layer out."
            )
        expected = {*FACTORS, *(LAMBDAS if self.is_vera else ()), *(["magnitude"] if config.magnitude else [])}
        if parts.keys() != expected:
            what = ", ".join(sorted(parts.keys() ^ expected))
            raise CheckpointError(
                f"{self.folder}: the adapter of {module} has missing or extra parts: {what}",
                hint="Save the adapter again.",
            )
        in_out = inputs_first(entry.module)
        rank, sides = config.rank_of(module), factors(drawn.shape, in_out)
        if rank > (sides.most_with_vectors if self.is_vera else sides.most):
            raise UnsupportedError(
                f"{module}: a pack cannot store r={rank} on a weight of {sides.d_out} x {sides.d_in}",
                hint=f"Set a rank of at most {sides.most} for this layer by rank_pattern; more has no effect.",
            )
        tensors_by_part = {}
        for part, shape in sides.shapes(rank).items():
            if part not in parts:
                continue
            if parts[part].numel() != torch.Size(shape).numel() or parts[part].shape[:1] not in (shape[:1], (1,)):
                raise CheckpointError(
                    f"{self.folder} belongs to another base than {self.pack.path}: {part} of {module} has shape "
                    f"{tuple(parts[part].shape)}, but {shape} fits",
                    hint="Pass the pack of the right base as `base`.",
                )
            tensors_by_part[part] = parts[part].reshape(shape)
        alpha = config.alpha_of(module)
        if not 0 < alpha < math.inf:
            raise UnsupportedError(
                f"{module}: a pack cannot store lora_alpha={alpha:g}", hint="Set a finite alpha above 0."
            )
        adapted = AdaptedRecipe(
            **drawn.drawn,
            fan_in_fan_out=in_out,
            rank=rank,
            alpha=alpha,
            scaling=config.scaling,
            beta=False,
            vectors=LAMBDAS if self.is_vera else msgspec.UNSET,
            magnitude=True if config.magnitude else msgspec.UNSET,
        )
        return adapted, tensors_by_part

    def _is_trained(self, name: str, tensor: Tensor) -> bool:
        """Return whether a tensor that the adapter has in full is more than a copy of the base's."""
        shapes = {key: getattr(entry, "shape", None) for key, entry in self.pack.descriptor.parameters.items()}
        shape = shapes[self.pack.descriptor.resolve(name)]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self.folder} belongs to another base than {self.pack.path}: {name} has shape "
                f"{tuple(tensor.shape)}, but {shape} in the base",
                hint="Pass the pack of the right base as `base`.",
            )
        if self.config.is_saved(name.rpartition(".")[0]) or (name.endswith("bias") and not self.whole):
            return True
        # PEFT saves embeddings without a request, in case they were resized.
        return not same_bits(plain_tensor(self.pack, name, torch.device("cpu")).to(tensor.dtype), tensor)

    def _refuse_tied(self, name: str, plan: Recipe) -> None:
        tied = [key for key, entry in plan.parameters.items() if isinstance(entry, TiedRecipe)]
        shared = {name, plan.resolve(name)} & {*tied, *(plan.resolve(key) for key in tied)}
        if shared:
            raise UnsupportedError(
                f"{name} is tied to another weight, but PEFT trains a copy of it, and a pack cannot store both",
                hint="Leave it out of target_modules and modules_to_save, or build the model with untied weights.",
            )


def _sides(entry: Entry) -> tuple[int, int]:
    """Return the outputs and inputs of a layer."""
    sides = factors(tuple(entry.tensor.shape), inputs_first(entry.module))
    return sides.d_out, sides.d_in


def _split(name: str) -> tuple[str, str]:
    """Return the module and the part of an adapter that a tensor is; or its own name and an empty text."""
    for end, part in _PARTS.items():
        if name.endswith(end):
            return name.removesuffix(end), part
    return name, ""


def _owner(name: str, part: str) -> str:
    """Return the entry of the plain state_dict that a tensor belongs to."""
    return f"{name}.weight" if part else name
