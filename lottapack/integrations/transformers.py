"""transformers opens folders that hold a pack: ``from_pretrained`` rebuilds the plain, merged model.

Registered as the quantiser ``lottapack``, the library's own place for weights that lie in a file in another form. A
folder's ``config.json`` says ``"quantization_config": {"quant_method": "lottapack", "pack": NAME}``. The model that
comes out is the class's own, with nothing of the quantiser left: it trains, saves and merges as any other.

transformers skips a quantiser that it does not know, and would then start from random weights. So ``config.json`` names
no weights under ``transformers_weights`` but says there what is to be imported; only this quantiser puts the pack's
name in that place, and without it the library refuses, quoting what it read.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lottapack.errors import ArchitectureError, CheckpointError, UnsupportedError
from lottapack.files.links import require_own_file
from lottapack.folders.bases import remember_pack
from lottapack.format.container import PACK_END
from lottapack.format.descriptor import Seeded, Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.limits import check_memory
from lottapack.weights.rebuild import generate, plain_tensor

METHOD = "lottapack"


class PackConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """What ``config.json`` says of a folder with a pack: the method, the pack's name, and the scaffold.

    The scaffold is left out where it is the default one; the pack holds all else.
    """

    def __init__(self, scaffold: str | None = None, pack: str | None = None, **_: Any) -> None:
        self.quant_method = METHOD
        if scaffold is not None:
            self.scaffold = scaffold
        if pack is not None:
            self.pack = pack
        self.dequantize = True  # the library's word for: the model that comes out is a plain one


class PackQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts a pack's weights where the library would initialise those that a checkpoint lacks.

    At that point each parameter lies on its device in its dtype, and nothing is tied, offloaded or hooked yet.
    """

    def validate_environment(self, device_map: Any = None, **_: Any) -> None:
        """Refuse what cannot be done."""
        places = device_map.values() if isinstance(device_map, dict) else [device_map]
        if any(str(place) == "disk" for place in places):
            raise UnsupportedError(
                "a pack cannot be offloaded to disk",
                hint="Export the pack with --format transformers and load that.",
            )

    def update_attn_implementation(self, config: Any) -> Any:
        """The first place that sees the configuration: name the pack, where the library looks for weights."""
        said = getattr(config, "transformers_weights", None)
        name = getattr(self.quantization_config, "pack", said)
        if not str(name).endswith(PACK_END):
            folder = Path(config.name_or_path or "")
            packs = sorted(path.name for path in folder.glob(f"*{PACK_END}")) if config.name_or_path else []
            if len(packs) != 1:
                raise CheckpointError(
                    f"{folder} holds {len(packs)} packs, and its config.json names none",
                    hint='Name it there: "quantization_config": {"quant_method": "lottapack", "pack": NAME}.',
                )
            name = packs[0]
        config.transformers_weights = name
        return config

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **_: Any) -> Any:
        if not checkpoint_files or len(checkpoint_files) != 1:
            raise CheckpointError(
                "a model of lottapack is one pack", hint="Name it in config.json: transformers_weights."
            )
        path = Path(checkpoint_files[0])
        require_own_file(path)
        scaffold = getattr(self.quantization_config, "scaffold", None)
        with open_pack(path, scaffold) as pack:
            names = names_in_pack(model, pack)
            check_memory(str(path), pack.declared_bytes(), None)
        own = model.__dict__
        self._before = {key: own.get(key) for key in _IGNORED}

        def tie(*args: Any, **options: Any) -> None:
            """Call it with what the pack lacks, not with what is in the file under another name."""
            missing = options.get("missing_keys")
            if missing is not None:
                missing -= names.keys() - getattr(model, "all_tied_weights_keys", {}).keys()
            type(model).tie_weights(model, *args, **options)

        own["tie_weights"] = tie
        # All tensors of the file are checked and used here, so none of them is news to the user.
        for key, patterns in zip(_IGNORED, ([".*"], [f"^{re.escape(name)}$" for name in names]), strict=True):
            given = getattr(model, key)
            kind = set if isinstance(given, set) else list  # by the library's version
            setattr(model, key, kind([*(given or ()), *patterns]))

        def initialise() -> None:
            del own["initialize_weights"]
            with open_pack(path, scaffold) as pack:
                fill(model, pack, names)
                if type(model).__name__ == pack.descriptor.architecture.class_:
                    remember_pack(model, pack)
            model.initialize_weights()  # what is in no pack: computed buffers, a head that the pack's class lacks

        own["initialize_weights"] = initialise
        return model

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        model.__dict__.pop("tie_weights", None)
        for key, value in self._before.items():
            model.__dict__.pop(key)
            if value is not None:
                model.__dict__[key] = value
        return model

    def is_serializable(self) -> bool:
        """The model is a plain one."""
        return True

    @property
    def is_trainable(self) -> bool:
        """The model is a plain one."""
        return True


_IGNORED = ("_keys_to_ignore_on_load_unexpected", "_keys_to_ignore_on_load_missing")


def names_in_pack(model: Any, pack: PackFile) -> dict[str, str]:
    """For entries of the model's state_dict, the parameters of the pack. Raises ArchitectureError.

    The class may be another than the pack's, as a base model without its head: then the prefix of the base
    model is left out or added, as the library does with any checkpoint.
    """
    entries, prefix = pack.descriptor.parameters, f"{model.base_model_prefix}."
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        known = next((key for key in (name, prefix + name, name.removeprefix(prefix)) if key in entries), None)
        if known is None:
            continue
        entry = entries[pack.descriptor.resolve(known)]
        assert not isinstance(entry, Tied)
        if tuple(tensor.shape) != entry.shape:
            raise ArchitectureError(
                f"{name} has shape {tuple(tensor.shape)} in {type(model).__name__}, and {entry.shape} in {pack.path}",
                hint="config.json was changed, or belongs to another pack: write the folder again.",
            )
        found[name] = known
    if not found:
        architecture = pack.descriptor.architecture
        raise ArchitectureError(
            f"{pack.path} holds a {architecture.class_}, and no parameter of a {type(model).__name__}",
            hint="Open it with the class that the pack was made from.",
        )
    return found


@torch.no_grad()
def fill(model: Any, pack: PackFile, names: dict[str, str]) -> None:
    """Put the pack's weights, adapters merged, into a model's entries, on their devices and in their dtypes."""
    for name, known in names.items():
        tensor: Tensor = model.get_parameter_or_buffer(name)
        if not tensor.is_meta:  # a tied one gets its owner's storage after this
            _fill_one(tensor, pack, known)
            tensor._is_hf_initialized = True  # type: ignore[attr-defined]


def _fill_one(tensor: Tensor, pack: PackFile, name: str) -> None:
    entry = pack.descriptor.parameters[name]
    recorded = isinstance(entry, Seeded) and str(tensor.dtype) == f"torch.{entry.dtype}"
    if recorded and tensor.is_contiguous():
        generate(pack, name, tensor.data)
    else:
        # Not copied into it: what the library read lies in a mapping of the file, aligned as it happens there.
        dtype = tensor.dtype if tensor.is_floating_point() else None
        tensor.data = plain_tensor(pack, name, tensor.device, dtype=dtype).to(tensor.dtype)


if METHOD not in AUTO_QUANTIZER_MAPPING:
    register_quantization_config(METHOD)(PackConfig)
    register_quantizer(METHOD)(PackQuantizer)
