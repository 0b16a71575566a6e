"""Write a pack as the folder of a PEFT adapter, with the pack of its base beside it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from torch import nn

from lottapack.errors import UnsupportedError
from lottapack.files.staging import staged_folder
from lottapack.folders import companions
from lottapack.folders.bases import FOLDER, rewritten, write_base_files
from lottapack.folders.model_folders import json_bytes
from lottapack.format import container
from lottapack.format.codings import SLICE
from lottapack.format.descriptor import (
    FACTORS,
    LAMBDAS,
    SCALES,
    Adapted,
    Coding,
    Descriptor,
    Seeded,
    Stored,
    Tied,
)
from lottapack.format.factors import adapter_shapes, batch_dims_of
from lottapack.format.files import ADAPTER, GENERATION, content, files_of
from lottapack.format.names import WEIGHT
from lottapack.format.packfile import Held, PackFile
from lottapack.format.recipe import scaling_factor
from lottapack.nn.kinds import inputs_first
from lottapack.peft.config import BESIDE_THE_ROLES, CONFIG, task_of
from lottapack.peft.vera import PROJECTIONS
from lottapack.weights.rebuild import skeleton

_PREFIX = "base_model.model."
_WEIGHTS = "adapter_model.safetensors"
_MERGED = "Export merged weights."
_LAYERS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
_HEADS = ("classifier", "score")
"""Modules that PEFT's classification wrappers train by themselves."""


def write_adapter(pack: PackFile, folder: Path) -> Path:
    """Write a pack as an adapter: its configuration, its tensors, and ``base`` with the pack of the plain backbone.

    Returns the path of ``adapter_model.safetensors``. Raises UnsupportedError naming what the pack has and PEFT does
    not support.
    """
    layout = _Plan(pack)
    held = layout.tensors()
    infos = [(name, pack.form(source)[0], shape) for name, (source, shape) in held.items()]
    beside = (ADAPTER, GENERATION)  # the first is part of the configuration, the second belongs to the base
    companions.refuse_others(pack, folder, leave=beside)
    with staged_folder(folder, entries=(CONFIG,), sources=[pack.path]) as opened:
        companions.write(pack, opened, leave=beside)
        write_base_files(_base(pack), opened, f"{FOLDER}/")
        with opened(_WEIGHTS) as file:
            container.write(
                file, {"format": "pt"}, container.layout(infos), lambda name: pack.read_bytes(held[name][0])
            )
        with opened(CONFIG) as file:
            file.write(json_bytes(layout.config(str((folder / FOLDER).resolve()))))
    return folder / _WEIGHTS


def _base(pack: PackFile) -> bytes:
    """Return the pack without its adapters."""
    plain = {
        name: Seeded(
            **entry.drawn,
            fingerprint=entry.fingerprint,
        )
        if isinstance(entry, Adapted)
        else entry
        for name, entry in pack.descriptor.parameters.items()
    }
    files = {name: record for name, record in files_of(pack.descriptor).items() if name == GENERATION}
    descriptor: Descriptor = msgspec.structs.replace(pack.descriptor, parameters=plain, files=files or msgspec.UNSET)
    return rewritten(pack, descriptor)


class _Plan:
    """PEFT's names and settings for what the pack holds."""

    def __init__(self, pack: PackFile) -> None:
        self.pack = pack
        self.model = skeleton(pack.descriptor)
        entries = pack.descriptor.parameters
        self.adapted = {name.rpartition(".")[0]: entry for name, entry in entries.items() if isinstance(entry, Adapted)}
        self.trained = [name for name, entry in entries.items() if isinstance(entry, Stored) and entry.trained]
        ties = (name for name, entry in entries.items() if isinstance(entry, Tied))
        self.tied = {pack.descriptor.resolve(name) for name in ties}
        self.biases: list[str] = []
        self.saved: list[str] = []
        where = str(pack.path)
        if not self.adapted:
            raise UnsupportedError(
                f"{where} does not have an adapter", hint="Export it as safetensors or transformers-pack."
            )
        self.vera = any(LAMBDAS[0] in entry.adapter.tensors() for entry in self.adapted.values())
        for fault, hint in self._faults():
            raise UnsupportedError(f"{where}: {fault}", hint=hint)
        self._sort_trained()

    def _faults(self) -> Iterator[tuple[str, str]]:
        """Yield what of the pack PEFT does not have, each with the next step."""
        adapted = self.adapted.items()
        for name, entry in self._entries():
            if isinstance(entry, Adapted) and (fault := self._fault_of_layer(name, entry)):
                yield fault, _MERGED
        learned = [name for name, entry in adapted if "beta" in entry.adapter.tensors()]
        if learned:
            yield (
                f"PEFT does not support beta, but this pack learned {len(learned)}, such as on {learned[0]}",
                "Scaffold with beta=1.0 for PEFT, or export merged weights.",
            )
        for name, entry in adapted:
            if set(SCALES) & entry.adapter.tensors().keys():
                yield f"PEFT does not support a beta by input or output, such as on {name}", _MERGED
        if self.vera:
            yield from ((fault, _MERGED) for fault in self._faults_of_vera())
        if len({("magnitude" in entry.adapter.tensors(), entry.scaling) for _, entry in adapted}) > 1:
            yield "PEFT needs one scaling rule, and magnitudes on all adapters or none", _MERGED
        for name in self.trained:
            if name in self.tied:
                yield f"{name} is trained and tied to another weight, but PEFT would train a copy of it", _MERGED

    def _fault_of_layer(self, name: str, entry: Adapted) -> str | None:
        """Return why PEFT has no such adapter of this layer, or would put another one there, or None."""
        layer = self._module_of(name)
        if not self._of_peft(name):
            return (
                f"this export supports adapters of linear layers, convolutions and embeddings, and {name} is a "
                f"parameter of a {type(layer).__name__}"
            )
        if layer is self.model:
            return f"PEFT adapts modules inside of a model, and {name} is a weight of the model itself"
        if getattr(layer, "groups", 1) != 1:
            return f"PEFT does not support the adapter of the grouped convolution {name.rpartition('.')[0]}"
        if name in self.tied:
            return f"{name} has an adapter and is tied to another weight, but PEFT would adapt one of the two alone"
        if batch_dims_of(entry) or entry.fan_in_fan_out != inputs_first(layer):
            return f"PEFT reads the weight of {type(layer).__name__} as another matrix than the adapter of {name} does"
        return None

    def _module_of(self, name: str) -> nn.Module:
        return self.model.get_submodule(name.rpartition(".")[0])

    def _of_peft(self, name: str) -> bool:
        """Return whether PEFT has adapters for a parameter: the weight of a layer of these classes."""
        owner = self._module_of(name)
        known = isinstance(owner, _LAYERS) or _is_conv1d(owner)
        return known and name.rpartition(".")[2] == WEIGHT

    def _faults_of_vera(self) -> Iterator[str]:
        """Yield what of adapters with vectors is not VeRA as PEFT has it: one projection for all layers."""
        ranks = {entry.rank for entry in self.adapted.values()}
        for name, entry in self.adapted.items():
            layer, parts = self.model.get_submodule(name), entry.adapter.tensors()
            scaling = scaling_factor(entry.alpha, entry.rank, entry.scaling)
            unlike = {
                "layers of other kinds than Linear and Conv1D": not (isinstance(layer, nn.Linear) or _is_conv1d(layer)),
                "LoRA and VeRA in one adapter": LAMBDAS[0] not in parts,
                "a scaling of VeRA other than 1": scaling != 1,
                "a magnitude of VeRA": "magnitude" in parts,
                "several ranks of VeRA": len(ranks) > 1,
            }
            yield from (f"PEFT does not support {what}, as on {name}" for what, is_so in unlike.items() if is_so)
        for part in FACTORS:
            whole = self._owner(part)
            for name in self.adapted:
                if not self._is_part(name, whole, part):
                    yield f"PEFT shares one {part} among all layers, but {name} has another than {whole}"

    def _owner(self, part: str) -> str:
        """Return the module with the largest factor, of which those of all others are parts."""
        sizes = {name: adapter_shapes(entry)[part] for name, entry in self.adapted.items()}
        return max(sorted(sizes), key=lambda name: sizes[name])

    def _is_part(self, name: str, owner: str, part: str) -> bool:
        """Return whether a module's factor is the first rows and columns of another's."""
        mine = self.adapted[name].adapter.tensors()[part].coding
        if name == owner or (isinstance(mine, Coding) and mine.id == SLICE and mine.of == _weight(owner)):
            return True
        one, other = (self.pack.read(self.pack.adapter(_weight(module))[part]) for module in (name, owner))
        rows, columns = one.shape
        return one.dtype == other.dtype and one.tobytes() == other[:rows, :columns].tobytes()

    def _entries(self) -> Any:
        return self.pack.descriptor.parameters.items()

    def _sort_trained(self) -> None:
        """Sort trained tensors into whole modules (modules_to_save) and biases. Raises UnsupportedError for others."""
        trained = set(self.trained)
        owners = sorted({name.rpartition(".")[0] for name in trained})
        for owner in owners:
            module = self.model.get_submodule(owner)
            own = [f"{owner}.{leaf}" if owner else leaf for leaf in module.state_dict(keep_vars=True)]
            mine = [name for name in trained if name.rpartition(".")[0] == owner]
            if owner and owner not in self.adapted and trained.issuperset(own):
                self.saved.append(owner)
            elif all(name.endswith("bias") for name in mine):
                self.biases += mine
            else:
                raise UnsupportedError(
                    f"{self.pack.path}: PEFT trains whole modules or biases, but here {mine[0]} alone is trained",
                    hint=_MERGED,
                )
        names = [name for name, _ in self.model.named_modules()]
        for owner in self.saved:
            others = [name for name in names if name.endswith(owner) and name not in self.saved]
            if others:
                raise UnsupportedError(
                    f"{self.pack.path}: PEFT would train {others[0]} with {owner}, because it compares the ends "
                    f"of names",
                    hint="Rename the modules, or export merged weights.",
                )

    def config(self, base: str) -> dict[str, Any]:
        """Return the contents of ``adapter_config.json``."""
        ranks = {name: entry.rank for name, entry in self.adapted.items()}
        alphas = {name: entry.alpha for name, entry in self.adapted.items()}
        rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
        first = next(iter(self.adapted.values()))
        class_name = self.pack.descriptor.architecture.class_
        of_adapted = all(name.rpartition(".")[0] in self.adapted for name in self.biases)
        common = {
            "task_type": self._task(),
            "auto_mapping": {"base_model_class": class_name, "parent_library": type(self.model).__module__},
            "base_model_name_or_path": base,
            "inference_mode": True,
            "r": rank,
            "fan_in_fan_out": any(_is_conv1d(self.model.get_submodule(name)) for name in self.adapted),
            "target_modules": self._targets(),
            "modules_to_save": self.saved or None,
        }
        bias = "none" if not self.biases else "only" if of_adapted else "all"
        if self.vera:
            named = {"bias": "vera_only" if bias == "only" else bias, "peft_type": "VERA", "save_projection": True}
            return {**common, **named, "vera_dropout": 0.0, **self._said()}
        return {
            **common,
            "peft_type": "LORA",
            "lora_alpha": alpha,
            "rank_pattern": {_exactly(name): value for name, value in ranks.items() if value != rank},
            "alpha_pattern": {_exactly(name): value for name, value in alphas.items() if value != alpha},
            "use_rslora": first.scaling == "rslora",
            "use_dora": "magnitude" in first.adapter.tensors(),
            "lora_dropout": 0.0,
            "bias": "lora_only" if bias == "only" else bias,
            **self._said(),
        }

    def _said(self) -> dict[str, Any]:
        """Return what the adapter's own configuration said beyond the roles."""
        held = ADAPTER in files_of(self.pack.descriptor)
        settings: dict[str, Any] = json.loads(content(self.pack, ADAPTER)) if held else {}
        return {key: settings[key] for key in BESIDE_THE_ROLES if key in settings}

    def _task(self) -> str | None:
        """Return PEFT's task of the class, unless its wrapper would train what the pack did not."""
        task = task_of(self.pack.descriptor.architecture.class_)
        heads = [name for name, _ in self.model.named_children() if any(head in name for head in _HEADS)]
        return task if task in (None, "CAUSAL_LM") or (heads and set(heads) <= set(self.saved)) else None

    def _targets(self) -> list[str] | str:
        """Return last names if they are exact, else one pattern of whole names."""
        ends = {name.rpartition(".")[2] for name in self.adapted}
        if {name for name, _ in self.model.named_modules() if name.rpartition(".")[2] in ends} == set(self.adapted):
            return sorted(ends)
        return "|".join(re.escape(name) for name in sorted(self.adapted))

    def tensors(self) -> dict[str, tuple[Held, tuple[int, ...]]]:
        """Return the pack's tensors and their PEFT shapes by PEFT's names.

        Raises UnsupportedError for a double name.
        """
        tensors: dict[str, tuple[Held, tuple[int, ...]]] = {}
        for module, entry in self.adapted.items():
            layer = self.model.get_submodule(module)
            for part, info in self.pack.adapter(_weight(module)).items():
                if self.vera and part in FACTORS:
                    continue
                tensors[f"{_PREFIX}{module}.{_name(part, layer)}"] = info, _shape(part, info.shape, entry)
        for part, called in PROJECTIONS.items() if self.vera else ():
            whole = self.pack.adapter(_weight(self._owner(part)))[part]
            tensors[called] = whole, whole.shape
        for name in self.trained:
            owner, _, leaf = name.rpartition(".")
            inner = "base_layer." if owner in self.adapted else ""
            called = f"{_PREFIX}{owner}.{inner}{leaf}"
            if called in tensors:
                raise UnsupportedError(
                    f"{self.pack.path}: PEFT would call both {name} and a tensor of an adapter {called}",
                    hint="Rename the module, or export merged weights.",
                )
            tensors[called] = name, self.pack.form(name)[1]
        return tensors


def _exactly(name: str) -> str:
    """Return a pattern that matches one module only, although PEFT compares the ends of names."""
    return f"^{re.escape(name)}"


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"


def _weight(module: str) -> str:
    return f"{module}.weight" if module else "weight"


def _name(part: str, layer: nn.Module) -> str:
    if part in LAMBDAS:
        return f"vera_{part}"
    if part == "magnitude":
        return "lora_magnitude_vector"
    return f"lora_embedding_{part[-1]}" if isinstance(layer, nn.Embedding) else f"{part}.weight"


def _shape(part: str, shape: tuple[int, ...], entry: Adapted) -> tuple[int, ...]:
    """Return PEFT's shape of a part. Convolutions have kernels as factors: A like the weight's, B of one pixel."""
    kernel = entry.shape[2:]
    if not kernel or part == "beta":
        return shape
    if part == "lora_A":
        return (shape[0], *entry.shape[1:])
    ones = (1,) * len(kernel)
    return (*shape, *ones) if part == "lora_B" else (1, *shape, *ones)
