"""Write a Llama as one GGUF file, for llama.cpp and what reads its files: merged weights, and the pack's tokenizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lottapack import rng
from lottapack.errors import UnsupportedError
from lottapack.exporting import gguf_tokenizer
from lottapack.extras import require
from lottapack.files.output import atomic_file
from lottapack.format.descriptor import Adapted, Constant, Seeded, Stored, Tied
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.limits import check_disk, check_memory
from lottapack.progress import Progress
from lottapack.weights import arrays

Q8_0 = "q8_0"
"""The dtype of GGUF with 8 bits a weight, and a float16 scale for each 32 of them."""
NAME = "model.gguf"
"""The name of the file in a folder."""
_CLASS = "LlamaForCausalLM"
_BLOCK = 32
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", Q8_0: "Q8_0"}
_BYTES = {"F32": 4 * _BLOCK, "F16": 2 * _BLOCK, "BF16": 2 * _BLOCK, "Q8_0": 2 + _BLOCK}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_EMBEDDING, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_COUNTS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    "max_position_embeddings",
)
"""What a configuration must say, since a GGUF file states it."""
_OPTIONAL = ("num_key_value_heads", "head_dim")
_SHOWN = 100
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(pack: PackFile, output: Path, dtype: str | None, max_bytes: int | None, progress: Progress | None) -> Path:
    """Write the GGUF file of a pack. ``dtype``: float32, float16, bfloat16 or q8_0; None: as the pack records.

    One weight at a time is in memory. Vectors, such as norms, are always float32, as llama.cpp expects them.
    Raises UnsupportedError for another architecture, or a part that GGUF's Llama does not have.
    """
    gguf = require("gguf", "gguf", "writing a GGUF file")
    config = _config(pack)
    _check_shapes(pack, config)
    tokenizer = gguf_tokenizer.read(pack, config)
    forms = dict(_forms(pack, dtype))
    sizes = {name: _size(pack, name, form) for name, form in forms.items()}
    total = sum(sizes.values())
    if max_bytes is not None:
        check_memory(str(pack.path), total, max_bytes)
    check_disk(str(pack.path), total, output.parent if output.parent.exists() else output.parent.parent)
    writer = gguf.GGUFWriter(None, "llama")
    for add, value in _facts(pack, config):
        getattr(writer, f"add_{add}")(value)
    tokenizer.add_to(writer)
    for name, form in forms.items():
        kind = gguf.GGMLQuantizationType[form]
        shape = _entry(pack, name).shape
        raw = shape if form == "F32" else gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(_name(name), raw, np.dtype("float32" if form == "F32" else "uint8"), sizes[name], kind)
    done = 0
    with atomic_file(output, parents=True) as file:
        writer.fout, writer.state = [file], gguf.gguf_writer.WriterState.EMPTY
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, form in forms.items():
            weight = gguf.quants.quantize(_weight(pack, name, config), gguf.GGMLQuantizationType[form])
            writer.write_tensor_data(np.ascontiguousarray(weight))
            done += sizes[name]
            if progress:
                progress(done, total)
    return output


def _config(pack: PackFile) -> dict[str, Any]:
    """Return the configuration of the model. Raises UnsupportedError for one that GGUF's Llama cannot express."""
    architecture = pack.descriptor.architecture
    if architecture.class_ != _CLASS or architecture.family != "transformers":
        raise UnsupportedError(
            f"{pack.path}: cannot write a {architecture.class_} as GGUF, only transformers' {_CLASS}",
            hint="Export it with `format='transformers'`, and convert that with llama.cpp's own converter.",
        )
    if pack.descriptor.rng.id == rng.TORCH_CPU:
        raise UnsupportedError(
            f"{pack.path}: cannot write weights that PyTorch drew as GGUF",
            hint="Export them with `format='transformers'`, and convert that with llama.cpp's own converter.",
        )
    config = architecture.config
    odd = [f"{name}=True" for name in ("attention_bias", "mlp_bias") if config.get(name)]
    counts = [*_COUNTS, *(name for name in _OPTIONAL if config.get(name) is not None)]
    odd += [_said(name, config.get(name)) for name in counts if not _counts(config.get(name))]
    if not odd:
        heads, keys, head = _heads(config)
        odd += [_said("num_key_value_heads", keys)] if heads % keys else []
        odd += [_said("head_dim", head)] if head % 2 else []
    if not _positive(config.get("rms_norm_eps")):
        odd.append(_said("rms_norm_eps", config.get("rms_norm_eps")))
    if config.get("hidden_act", "silu") != "silu":
        odd.append(_said("hidden_act", config["hidden_act"]))
    rope = config.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        odd.append(_said("rope_parameters", rope))
    elif not _positive(_theta(config)):
        odd.append(_said("rope_theta", _theta(config)))
    else:
        kind = rope.get("rope_type", rope.get("type", "default"))
        odd += [_said("rope_type", kind)] if kind != "default" or config.get("rope_scaling") else []
    if odd:
        raise UnsupportedError(
            f"{pack.path}: cannot write a Llama with {', '.join(odd)} as GGUF",
            hint="Export it with `format='transformers'`, and convert that with llama.cpp's own converter.",
        )
    return config


def _said(name: str, value: object) -> str:
    text = repr(value)
    return f"{name}={text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'}"


def _counts(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 32


def _positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < 1e30  # type: ignore[operator]


def _theta(config: dict[str, Any]) -> Any:
    return (config.get("rope_parameters") or {}).get("rope_theta") or config.get("rope_theta") or 10000.0


def _heads(config: dict[str, Any]) -> tuple[int, int, int]:
    """Return how many heads ask, how many are asked, and the size of each."""
    heads = config["num_attention_heads"]
    return heads, config.get("num_key_value_heads") or heads, config.get("head_dim") or config["hidden_size"] // heads


def _check_shapes(pack: PackFile, config: dict[str, Any]) -> None:
    """Raise UnsupportedError unless the pack has the weights of its configuration's Llama, and only these.

    A reader takes the facts for true: it would leave out a layer, or tie an output that is missing.
    """
    wanted = _shapes(config) if config["num_hidden_layers"] <= len(pack.descriptor.parameters) else {}
    own = {name: _entry(pack, name).shape for name in pack.descriptor.parameters}
    if wrong := sorted(name for name in {*own, *wanted} if own.get(name) != wanted.get(name)):
        name = wrong[0]
        has, due = (f"{shapes[name]}" if name in shapes else "none" for shapes in (own, wanted))
        raise UnsupportedError(
            f"{pack.path}: shape of {name}: {has}, in a Llama of this configuration: {due}",
            hint="Export it as safetensors.",
        )


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each weight of a Llama with that configuration."""
    wide, inner, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, keys, head = _heads(config)
    layer = {
        "input_layernorm": (wide,),
        "self_attn.q_proj": (heads * head, wide),
        "self_attn.k_proj": (keys * head, wide),
        "self_attn.v_proj": (keys * head, wide),
        "self_attn.o_proj": (wide, heads * head),
        "post_attention_layernorm": (wide,),
        "mlp.gate_proj": (inner, wide),
        "mlp.up_proj": (inner, wide),
        "mlp.down_proj": (wide, inner),
    }
    found = {_EMBEDDING: (words, wide), "model.norm.weight": (wide,), _OUTPUT: (words, wide)}
    for number in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return found


def _facts(pack: PackFile, config: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield each fact as the writer's method and value."""
    heads, keys, head = _heads(config)
    yield "name", pack.path.name.partition(".")[0].encode(errors="replace").decode()
    yield "context_length", config["max_position_embeddings"]
    yield "embedding_length", config["hidden_size"]
    yield "block_count", config["num_hidden_layers"]
    yield "feed_forward_length", config["intermediate_size"]
    yield "head_count", heads
    yield "head_count_kv", keys
    yield "key_length", head
    yield "value_length", head
    yield "rope_dimension_count", head
    yield "rope_freq_base", float(_theta(config))
    yield "layer_norm_rms_eps", float(config["rms_norm_eps"])
    yield "vocab_size", config["vocab_size"]


def _forms(pack: PackFile, dtype: str | None) -> Iterator[tuple[str, str]]:
    """Yield each parameter with its type in GGUF."""
    for name in pack.descriptor.parameters:
        owner = pack.descriptor.resolve(name)
        if name == _OUTPUT and owner == _EMBEDDING:
            continue  # GGUF's reader ties a missing output to the embedding, and nothing else
        entry = _entry(pack, name)
        recorded = dtype or entry.dtype
        if recorded not in _TYPES:
            hint = "Choose one with `dtype`: float32, float16, bfloat16 or q8_0."
            raise UnsupportedError(f"{pack.path}: GGUF does not have weights in {recorded}, as {name} is", hint=hint)
        form = _TYPES[recorded]
        if len(entry.shape) < 2:
            form = "F32"
        elif form == "Q8_0" and entry.shape[-1] % _BLOCK:
            form = "F16"  # as llama.cpp's own tools do
        yield name, form


def _entry(pack: PackFile, name: str) -> Seeded | Adapted | Stored | Constant:
    """Return the entry that has the values of a parameter, which may be tied."""
    entry = pack.descriptor.parameters[pack.descriptor.resolve(name)]
    assert not isinstance(entry, Tied)
    return entry


def _size(pack: PackFile, name: str, form: str) -> int:
    return numel(_entry(pack, name).shape) * _BYTES[form] // _BLOCK


def _name(name: str) -> str:
    """Return the name of a parameter in GGUF."""
    layer = name.removesuffix(".weight")
    if layer in _TOP:
        return f"{_TOP[layer]}.weight"
    _, _, number, part = layer.split(".", 3)
    return f"blk.{number}.{_LAYER[part]}.weight"


def _weight(pack: PackFile, name: str, config: dict[str, Any]) -> Any:
    """Return a plain weight in float32, with queries and keys in llama.cpp's order of rows."""
    weight = arrays.values(arrays.whole(pack, pack.descriptor.resolve(name)), _entry(pack, name).dtype)
    weight = np.ascontiguousarray(weight, dtype=np.float32)
    heads, keys, _ = _heads(config)
    if name.endswith("k_proj.weight"):
        heads = keys
    elif not name.endswith("q_proj.weight"):
        return weight
    # transformers rotates halves of a head, llama.cpp neighbours.
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
