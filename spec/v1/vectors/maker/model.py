"""A model, put together parameter by parameter: descriptor, tensors, and the plain weights that they stand for."""

from typing import Any

import numpy as np

from . import codings, pack, tables
from .canonical import canonical
from .merge import merge, scaling_factor, sides
from .pack import Tensor
from .values import Bits, elements, fingerprint, from_bits, little_endian, to_bits

NUMPY = {"int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "i1", "uint8": "u1"}


def sequential(*children: tuple[str, dict[str, Any]], names: list[str] | None = None) -> dict[str, Any]:
    """The architecture of a ``Sequential`` of leaves."""
    nodes = [
        {"name": name, "class": leaf, "config": config}
        for name, (leaf, config) in zip(names or map(str, range(len(children))), children, strict=True)
    ]
    return {"family": "torch.nn", "class": "Sequential", "config": {"children": nodes}}


def linear(d_in: int, d_out: int, bias: bool = True) -> tuple[str, dict[str, Any]]:
    """A linear layer."""
    return "Linear", {"in_features": d_in, "out_features": d_out, "bias": bias}


def adapter_prefix(name: str) -> str:
    """What stands before ``lora_A`` in the names of a parameter's adapter: container.md, section 5."""
    before, leaf = name[: name.rfind(".") + 1], name[name.rfind(".") + 1 :]
    return before if leaf == "weight" else f"{name}_"


def tensor(dtype: str, *shape: int, first: int = 1) -> Tensor:
    """A tensor of small numbers of both signs, exact in every dtype, from ``first`` on."""
    numbers = [(7 * n) % 31 - 15 for n in range(first, first + int(np.prod(shape, dtype=int)))]
    if dtype in ("float32", "bfloat16", "float16"):
        data = little_endian(to_bits(np.array([number / 8 for number in numbers], np.float32), dtype))
    elif dtype == "bool":
        data = bytes(number & 1 for number in numbers)
    elif dtype == "float64":
        data = (np.array(numbers) / 8).astype("<f8").tobytes()
    else:
        data = np.array(numbers).astype(NUMPY[dtype]).tobytes()
    return Tensor(dtype, list(shape), data)


class Model:
    """What goes into a pack. Every method adds an entry; ``descriptor`` and ``tensors`` may then be changed."""

    def __init__(self, architecture: dict[str, Any], seed: int = 42) -> None:
        self.seed = seed
        self.descriptor: dict[str, Any] = {
            "lottapack": "1.0",
            "architecture": architecture,
            "rng": {"id": "philox4x32-10", "seed": f"{seed:016x}", "tables": {}},
            "parameters": {},
            "provenance": {"vectors": "1.0"},
        }
        self.parameters: dict[str, Any] = self.descriptor["parameters"]
        self.tensors: dict[str, Tensor] = {}
        self.plain: dict[str, bytes] = {}
        self.decoded: dict[str, Tensor] = {}
        self.scaffolds: dict[str, Model] = {}
        self.files: dict[str, bytes] = {}

    def table(self, table_id: str, bits: int, words: list[int]) -> None:
        """A table of the pack's own, from the bits of its entries."""
        data = np.array(words, "<u4").tobytes()
        self.tensors[f"lottapack.tables.{table_id}"] = made = Tensor("float32", [len(words)], data)
        self.descriptor["rng"]["tables"][table_id] = {"bits": bits, "sha256": made.sha256}

    def beside(self, name: str, data: bytes, codes: Tensor | None = None) -> None:
        """A file beside the model; ``codes``: how its bytes lie in the pack, if not as they are."""
        self.files[name] = data
        entry = {"size": len(data), "sha256": Tensor("uint8", [len(data)], data).sha256}
        if codes is None:
            self.tensors[f"lottapack.files.{name}"] = Tensor("uint8", [len(data)], data)
        else:
            self.tensors[f"lottapack.files.{name}.codes"] = codes
            entry["coding"] = {"id": "planes-zlib", "codes": codes.sha256}
        self.descriptor.setdefault("files", {})[name] = entry

    def generated(self, name: str, shape: list[int], dtype: str, distribution: str, scale: float) -> Bits:
        """The bits of a generated tensor, in its shape."""
        if distribution in tables.BITS:
            table = tables.builtin(distribution)
        else:
            table = np.frombuffer(self.tensors[f"lottapack.tables.{distribution}"].data, "<f4")
        count = int(np.prod(shape, dtype=int))
        whole = shape if distribution == "hadamard" else None
        return elements(self.seed, name, table, scale, dtype, 0, count, whole).reshape(shape)

    def seeded(
        self,
        name: str,
        shape: list[int],
        dtype: str = "float32",
        distribution: str = "normal16",
        scale: float = 0.5,
    ) -> None:
        """A generated parameter."""
        bits = self.generated(name, shape, dtype, distribution, scale)
        self.plain[name] = little_endian(bits)
        self.parameters[name] = {
            "role": "seeded",
            "shape": shape,
            "dtype": dtype,
            "distribution": distribution,
            "scale": scale,
            "fingerprint": fingerprint(bits),
        }

    def adapted(
        self,
        name: str,
        shape: list[int],
        dtype: str = "float32",
        distribution: str = "normal16",
        scale: float = 0.5,
        *,
        rank: int = 1,
        alpha: float = 8.0,
        scaling: str = "lora",
        fan_in_fan_out: bool = False,
        beta: bool = True,
        adapter_dtype: str = "float32",
        magnitude: bool = False,
        drawn: dict[str, tuple[str, float]] | None = None,
        batch_dims: int = 0,
        shared_factor: str | None = None,
        vectors: tuple[str, ...] = (),
        slices: dict[str, str] | None = None,
    ) -> None:
        """A generated parameter with an adapter.

        ``drawn``: distribution and scale of factors that come from the seed. ``slices``: by factor, the parameter of
        whose factor it is a part.
        """
        self.seeded(name, shape, dtype, distribution, scale)
        d_out, d_in = sides(shape, fan_in_fan_out, batch_dims) if 0 <= batch_dims < len(shape) else (1, 1)
        batch = shape[: max(batch_dims, 0)]
        batch_a, batch_b = ([] if shared_factor == factor else batch for factor in ("lora_A", "lora_B"))
        adapter = {}
        if rank:
            adapter["lora_A"] = tensor(adapter_dtype, *batch_a, rank, d_in, first=3)
            adapter["lora_B"] = tensor(adapter_dtype, *batch_b, d_out, rank, first=5)
        lengths = {"lambda_b": d_out, "lambda_d": rank, "scale_in": d_in, "scale_out": d_out}
        for first, part in enumerate(vectors, 7):
            adapter[part] = tensor(adapter_dtype, *batch, lengths[part], first=first)
        if beta:
            adapter["beta"] = tensor(adapter_dtype, 1, first=4)
        if magnitude:
            adapter["magnitude"] = tensor(adapter_dtype, *batch, d_out, first=6)
        prefix = adapter_prefix(name)
        for part, (table_id, factor) in (drawn or {}).items():
            bits = self.generated(prefix + part, adapter[part].shape, adapter_dtype, table_id, factor)
            adapter[part] = self.decoded[prefix + part] = Tensor(
                adapter_dtype, adapter[part].shape, little_endian(bits)
            )
        for part, owner in (slices or {}).items():
            name_of_owner = adapter_prefix(owner) + part
            whole = self.decoded.get(name_of_owner) or self.tensors[name_of_owner]
            rows, columns = adapter[part].shape
            words = np.frombuffer(whole.data, "<u4" if adapter_dtype == "float32" else "<u2").reshape(whole.shape)
            data = np.ascontiguousarray(words[:rows, :columns]).tobytes()
            adapter[part] = self.decoded[prefix + part] = Tensor(adapter_dtype, adapter[part].shape, data)
        without_bytes = {*(drawn or {}), *(slices or {})}
        self.tensors |= {prefix + part: made for part, made in adapter.items() if part not in without_bytes}
        self.parameters[name] |= {
            "role": "adapted",
            "fan_in_fan_out": fan_in_fan_out,
            "rank": rank,
            "alpha": alpha,
            "scaling": scaling,
            "adapter": {part: {"dtype": adapter_dtype, "sha256": made.sha256} for part, made in adapter.items()},
        }
        for part, (table_id, factor) in (drawn or {}).items():
            coding = {"id": "seeded", "distribution": table_id, "scale": factor}
            self.parameters[name]["adapter"][part]["coding"] = coding
        for part, owner in (slices or {}).items():
            self.parameters[name]["adapter"][part]["coding"] = {"id": "slice", "of": owner}
        if batch_dims:
            self.parameters[name]["batch_dims"] = batch_dims
        if shared_factor:
            self.parameters[name]["shared_factor"] = shared_factor
        if rank >= 0 and 0 <= batch_dims <= len(shape) - 1:  # otherwise only in a file that is to be refused
            self.merge(name)

    def merge(self, name: str) -> None:
        """The weight that a parameter with an adapter stands for."""
        entry, prefix = self.parameters[name], adapter_prefix(name)
        held = {part: self.decoded.get(prefix + part, self.tensors.get(prefix + part)) for part in entry["adapter"]}
        adapter = {part: self.numbers(made) for part, made in held.items() if made is not None}
        weight = self.generated(name, entry["shape"], entry["dtype"], entry["distribution"], entry["scale"])
        alpha = entry["alpha"]
        s = scaling_factor(entry["scaling"], alpha, entry["rank"]) if alpha > 0 else np.float32(0)
        batch_dims = entry.get("batch_dims", 0)
        made = merge(weight, entry["dtype"], entry["fan_in_fan_out"], s, adapter, batch_dims)
        self.plain[name] = little_endian(made)

    @staticmethod
    def numbers(stored: Tensor) -> tables.F32:
        """A tensor's values in binary32."""
        bits = np.frombuffer(stored.data, "<u4" if stored.dtype == "float32" else "<u2")
        return from_bits(bits, stored.dtype).reshape(stored.shape)

    def stored(self, name: str, made: Tensor, group: str = "other", trained: bool = True) -> None:
        """A parameter that lies in the file."""
        self.tensors[name] = made
        self.plain[name] = made.data
        self.parameters[name] = {
            "role": "stored",
            "shape": made.shape,
            "dtype": made.dtype,
            "sha256": made.sha256,
            "trained": trained,
            "group": group,
        }

    def coded(
        self,
        name: str,
        dtype: str,
        shape: list[int],
        coding: str,
        codes: Tensor,
        scales: Tensor | None = None,
        group: str = "embedding",
    ) -> None:
        """A parameter that lies in the file in another form."""
        made = Tensor(dtype, shape, codings.decode(coding, dtype, shape, codes, scales))
        self.stored(name, made, group)
        del self.tensors[name]
        self.parameters[name]["coding"] = {"id": coding}
        self.recode(name, "codes", codes)
        if scales is not None:
            self.recode(name, "scales", scales)

    def recode(self, name: str, part: str, made: Tensor) -> None:
        """Put a coded tensor into the file, and its hash into the entry."""
        self.tensors[f"{name}.{part}"] = made
        self.parameters[name]["coding"][part] = made.sha256

    def coded_adapter(
        self, name: str, part: str, coding: str, codes: Tensor, scales: Tensor | None = None, dtype: str = "float32"
    ) -> None:
        """Another form for a tensor of an adapter, whose weight is then that of what it decodes to."""
        entry, prefix = self.parameters[name], adapter_prefix(name)
        shape = self.tensors.pop(prefix + part).shape
        made = Tensor(dtype, shape, codings.decode(coding, dtype, shape, codes, scales))
        entry["adapter"][part] = {"dtype": dtype, "sha256": made.sha256, "coding": {"id": coding}}
        self.decoded[prefix + part] = made
        for ending, coded in (("codes", codes), ("scales", scales)):
            if coded is not None:
                self.recode_adapter(name, part, ending, coded)
        self.merge(name)

    def recode_adapter(self, name: str, part: str, ending: str, made: Tensor) -> None:
        """Put a coded tensor of an adapter into the file, and its hash into the entry."""
        self.tensors[f"{adapter_prefix(name)}{part}.{ending}"] = made
        self.parameters[name]["adapter"][part]["coding"][ending] = made.sha256

    def constant(self, name: str, shape: list[int], dtype: str, value: str) -> None:
        """A parameter whose elements all have the bits ``value``."""
        self.parameters[name] = {"role": "constant", "shape": shape, "dtype": dtype, "value": value}
        count = int(np.prod([float(size) for size in shape]))
        if count < 1_000_000:  # larger ones are only in files that are to be refused
            self.plain[name] = bytes.fromhex(value)[::-1] * count

    def tied(self, name: str, to: str) -> None:
        """A parameter that shares the storage of another."""
        self.parameters[name] = {"role": "tied", "to": to}

    def scaffold(self, name: str, twin: "Model") -> None:
        """One more scaffold; ``twin``: the same model from that scaffold's seed."""
        entries = twin.parameters.items()
        self.scaffolds[name] = twin
        self.descriptor["rng"].setdefault("scaffolds", {})[name] = {
            "seed": f"{twin.seed:016x}",
            "fingerprints": {key: entry["fingerprint"] for key, entry in entries if "fingerprint" in entry},
        }

    def file(self, text: bytes | None = None) -> bytes:
        """The pack, with the descriptor as it is now, or as ``text``."""
        return pack.file(canonical(self.descriptor) if text is None else text, self.tensors)
