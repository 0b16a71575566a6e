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
from lottapack.format import dtypes
from lottapack.format.descriptor import Tied
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
    if dtype == "float64":
        raise UnsupportedError("GGUF does not have weights in float64", hint="Choose float32, float16 or q8_0.")
    gguf = require("gguf", "gguf", "writing a GGUF file")
    config = _config(pack)
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
        shape = _shape(pack, name)
        raw = shape if form == "F32" else gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(_name(name), raw, np.dtype("float32" if form == "F32" else "uint8"), sizes[name], kind)
    done = 0
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(output) as file:
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
    if config.get("hidden_act", "silu") != "silu":
        odd.append(f"hidden_act={config['hidden_act']!r}")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        odd.append(f"rope_type={rope.get('rope_type', 'scaled')!r}")
    if odd:
        raise UnsupportedError(
            f"{pack.path}: cannot write a Llama with {', '.join(odd)} as GGUF",
            hint="Export it with `format='transformers'`, and convert that with llama.cpp's own converter.",
        )
    return config


def _facts(pack: PackFile, config: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield each fact as the writer's method and value."""
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    yield "name", pack.path.name.partition(".")[0]
    yield "context_length", config["max_position_embeddings"]
    yield "embedding_length", config["hidden_size"]
    yield "block_count", config["num_hidden_layers"]
    yield "feed_forward_length", config["intermediate_size"]
    yield "head_count", heads
    yield "head_count_kv", config.get("num_key_value_heads") or heads
    yield "key_length", head
    yield "value_length", head
    yield "rope_dimension_count", head
    yield "rope_freq_base", float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    yield "layer_norm_rms_eps", float(config["rms_norm_eps"])
    yield "vocab_size", config["vocab_size"]


def _forms(pack: PackFile, dtype: str | None) -> Iterator[tuple[str, str]]:
    """Yield each parameter with its type in GGUF."""
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied):
            continue  # GGUF's reader ties a missing output to the embedding
        form = _TYPES[dtype or entry.dtype]
        if len(entry.shape) < 2:
            form = "F32"
        elif form == "Q8_0" and entry.shape[-1] % _BLOCK:
            form = "F16"  # as llama.cpp's own tools do
        yield name, form


def _shape(pack: PackFile, name: str) -> tuple[int, ...]:
    entry = pack.descriptor.parameters[name]
    assert not isinstance(entry, Tied)
    return entry.shape


def _size(pack: PackFile, name: str, form: str) -> int:
    return numel(_shape(pack, name)) * _BYTES[form] // _BLOCK


def _name(name: str) -> str:
    """Return the name of a parameter in GGUF. Raises UnsupportedError."""
    layer, _, last = name.rpartition(".")
    parts = layer.split(".", 3)
    if layer in _TOP:
        return f"{_TOP[layer]}.{last}"
    if len(parts) == 4 and parts[:2] == ["model", "layers"] and parts[3] in _LAYER:
        return f"blk.{parts[2]}.{_LAYER[parts[3]]}.{last}"
    raise UnsupportedError(f"GGUF's Llama does not have the parameter {name}", hint="Export it as safetensors.")


def _weight(pack: PackFile, name: str, config: dict[str, Any]) -> Any:
    """Return a plain weight in float32, with queries and keys in llama.cpp's order of rows."""
    weight = arrays.values(arrays.whole(pack, name), dtypes.dtype_name(_recorded(pack, name)))
    weight = np.ascontiguousarray(weight, dtype=np.float32)
    heads = config["num_attention_heads"]
    if name.endswith("k_proj.weight"):
        heads = config.get("num_key_value_heads") or heads
    elif not name.endswith("q_proj.weight"):
        return weight
    # transformers rotates halves of a head, llama.cpp neighbours.
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _recorded(pack: PackFile, name: str) -> str:
    entry = pack.descriptor.parameters[name]
    assert not isinstance(entry, Tied)
    return entry.dtype
