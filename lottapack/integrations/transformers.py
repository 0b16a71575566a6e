"""Let transformers open folders with a pack: ``from_pretrained`` rebuilds the plain, merged model.

This registers the quantiser ``lottapack``, because quantisers are the library's mechanism for weights in other forms. A
folder's ``config.json`` says ``"quantization_config": {"quant_method": "lottapack", "pack": NAME}``. The resulting
model is of its plain class, without any trace of the quantiser: it trains, saves and merges like any other.

transformers ignores a quantiser that it does not know, and would then start from random weights. So ``config.json``
does not name weights under ``transformers_weights`` but says there what to import. Only this quantiser replaces
that text by the pack's name; without it the library refuses the folder and quotes the text.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lottapack.arch.computed_dtypes import cast_known
from lottapack.errors import ArchitectureError, CheckpointError, UnsupportedError
from lottapack.files.links import require_own_file
from lottapack.folders.bases import remember_pack
from lottapack.format.container import PACK_END
from lottapack.format.descriptor import Adapted, Seeded, Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.limits import check_memory
from lottapack.weights.loaded_size import peak_bytes
from lottapack.weights.rebuild import generate, plain_tensor

METHOD = "lottapack"


class PackConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The ``config.json`` of a folder with a pack: the method, the pack's name, and the scaffold.

    It omits the default scaffold; the pack contains everything else.
    """

    def __init__(self, scaffold: str | None = None, pack: str | None = None, **_: Any) -> None:
        self.quant_method = METHOD
        for field, value in (("scaffold", scaffold), ("pack", pack)):
            if not isinstance(value, str | None):
                raise CheckpointError(
                    f"config.json names the {field} {str(value)[:100]!r}, which is not a text",
                    hint=f"Name it there, or leave it out: quantization_config.{field}.",
                )
        if scaffold is not None:
            self.scaffold = scaffold
        if pack is not None:
            self.pack = pack
        self.dequantize = True  # tells the library that the resulting model is a plain one


class PackQuantizer(HfQuantizer):  # type: ignore[misc]
    """Fills in a pack's weights where the library would initialise those that a checkpoint lacks.

    At that point each parameter is on its device and in its dtype, and nothing is tied, offloaded or hooked yet.
    """

    def validate_environment(self, device_map: Any = None, **_: Any) -> None:
        """Refuse unsupported options."""
        places = device_map.values() if isinstance(device_map, dict) else [device_map]
        if any(str(place) == "disk" for place in places):
            raise UnsupportedError(
                "cannot offload the weights of a pack to disk",
                hint='Export the pack with format="transformers" and load that.',
            )

    def update_attn_implementation(self, config: Any) -> Any:
        """Put the pack's name under ``transformers_weights``. This is the first hook that gets the configuration."""
        named = getattr(config, "transformers_weights", None)
        name = getattr(self.quantization_config, "pack", named)
        if not str(name).endswith(PACK_END):
            folder = Path(config.name_or_path or "")
            packs = sorted(path.name for path in folder.glob(f"*{PACK_END}")) if config.name_or_path else []
            if len(packs) != 1:
                raise CheckpointError(
                    f"{folder} contains {len(packs)} packs, and its config.json does not name one",
                    hint='Name one there: "quantization_config": {"quant_method": "lottapack", "pack": NAME}.',
                )
            name = packs[0]
        config.transformers_weights = name
        return config

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **_: Any) -> Any:
        if not checkpoint_files or len(checkpoint_files) != 1:
            raise CheckpointError(
                "a lottapack model consists of exactly one pack",
                hint="Name it in config.json under transformers_weights.",
            )
        path = Path(checkpoint_files[0])
        require_own_file(path)
        scaffold = getattr(self.quantization_config, "scaffold", None)
        with open_pack(path, scaffold) as pack:
            names = names_in_pack(model, pack)
            check_memory(str(path), peak_bytes(pack), None)
        own = model.__dict__
        self._before = {key: own.get(key) for key in _IGNORED}
        self._computed: list[dict[str, str]] = []

        def tie(*args: Any, **options: Any) -> None:
            """Tie with the keys that the pack lacks, not with those that the file has under another name."""
            missing = options.get("missing_keys")
            if missing is not None:
                missing -= names.keys() - getattr(model, "all_tied_weights_keys", {}).keys()
            type(model).tie_weights(model, *args, **options)

        own["tie_weights"] = tie
        # All tensors of the file are checked and used here, so the user need not be told of unused or missing ones.
        for key, patterns in zip(_IGNORED, ([".*"], [f"^{re.escape(name)}$" for name in names]), strict=True):
            given = getattr(model, key)
            kind = set if isinstance(given, set) else list  # depends on the library's version
            setattr(model, key, kind([*(given or ()), *patterns]))

        def initialise() -> None:
            del own["initialize_weights"]
            with open_pack(path, scaffold) as pack:
                fill(model, pack, names)
                self._computed = computed_in_model(model, pack, names)
                if type(model).__name__ == pack.descriptor.architecture.class_:
                    remember_pack(model, pack)
            model.initialize_weights()  # for computed buffers, and a head that the pack's class lacks

        own["initialize_weights"] = initialise
        return model

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        model.__dict__.pop("tie_weights", None)
        for dtypes in self._computed:
            cast_known(model, dtypes)
        for key, value in self._before.items():
            model.__dict__.pop(key)
            if value is not None:
                model.__dict__[key] = value
        return model

    def is_serializable(self) -> bool:
        """Return True: the model is a plain one."""
        return True

    @property
    def is_trainable(self) -> bool:
        """The model is a plain one."""
        return True


_IGNORED = ("_keys_to_ignore_on_load_unexpected", "_keys_to_ignore_on_load_missing")


def names_in_pack(model: Any, pack: PackFile) -> dict[str, str]:
    """Return the pack's parameters for the entries of the model's state_dict. Raises ArchitectureError.

    The class may differ from the pack's, such as a base model without its head: then the prefix of the base model is
    removed or added, as the library does with any checkpoint.
    """
    entries, prefix = pack.descriptor.parameters, f"{model.base_model_prefix}."
    names = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        known = next((key for key in (name, prefix + name, name.removeprefix(prefix)) if key in entries), None)
        if known is None:
            continue
        entry = entries[pack.descriptor.resolve(known)]
        assert not isinstance(entry, Tied)
        if tuple(tensor.shape) != entry.shape:
            raise ArchitectureError(
                f"{name} has shape {tuple(tensor.shape)} in {type(model).__name__}, but {entry.shape} in {pack.path}",
                hint="config.json was changed, or belongs to another pack. Write the folder again.",
            )
        names[name] = known
    if not names:
        architecture = pack.descriptor.architecture
        raise ArchitectureError(
            f"{pack.path} holds a {architecture.class_}, without any parameter of a {type(model).__name__}",
            hint="Open it with the class that the pack was made from.",
        )
    return names


def computed_in_model(model: Any, pack: PackFile, names: dict[str, str]) -> list[dict[str, str]]:
    """Return the dtypes to which load() casts computed tensors, in turn, by the names that they can have in the model.

    First the pack's; then the one to which the generated weights were converted.
    """
    entries, asked, prefix = pack.descriptor.parameters, None, f"{model.base_model_prefix}."
    for name, known in names.items():
        entry, now = entries[known], str(model.get_parameter_or_buffer(name).dtype).removeprefix("torch.")
        if isinstance(entry, Seeded | Adapted) and now != entry.dtype:
            asked = now
    recorded = {
        place: dtype
        for name, dtype in (pack.descriptor.computed or {}).items()
        for place in (name, prefix + name, name.removeprefix(prefix))
    }
    return [recorded, *([dict.fromkeys(recorded, asked)] if asked else [])]


@torch.no_grad()
def fill(model: Any, pack: PackFile, names: dict[str, str]) -> None:
    """Write the pack's weights, with adapters merged, into a model's entries, on their devices and in their dtypes."""
    for name, known in names.items():
        tensor: Tensor = model.get_parameter_or_buffer(name)
        if not tensor.is_meta:  # a tied one gets its owner's storage later
            _fill_one(tensor, pack, known)
            tensor._is_hf_initialized = True  # type: ignore[attr-defined]


def _fill_one(tensor: Tensor, pack: PackFile, name: str) -> None:
    entry = pack.descriptor.parameters[name]
    recorded = isinstance(entry, Seeded) and str(tensor.dtype) == f"torch.{entry.dtype}"
    if recorded and tensor.is_contiguous():
        generate(pack, name, tensor.data)
    else:
        # Copied, because the library's tensor is a view of the mapped file with whatever alignment it has there.
        dtype = tensor.dtype if tensor.is_floating_point() else None
        tensor.data = plain_tensor(pack, name, tensor.device, dtype=dtype).to(tensor.dtype)


if METHOD not in AUTO_QUANTIZER_MAPPING:
    register_quantization_config(METHOD)(PackConfig)
    register_quantizer(METHOD)(PackQuantizer)
