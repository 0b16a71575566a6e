"""Random packs that are right, of every role, table, coding and form of an adapter, several scaffolds and files.

The maker of the vectors writes them, so that it gives their weights too. Independent of lottapack.
"""

import copy
import hashlib
import random
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "spec" / "v1" / "vectors"))
from maker import trellis
from maker.codings import as_stream, int8_tensor, nibbles, planes, scales_tensor
from maker.model import Model, adapter_prefix, linear, sequential
from maker.pack import TYPES, Tensor
from maker.values import fingerprint, little_endian, to_bits

FLOATS = ("float32", "bfloat16", "float16")
TABLES = ("normal8", "normal4", "normal2", "uniform16", "sign1", "hadamard", "own")
"""Not normal16: the maker proves each of its entries, which takes a minute."""
FACTORS = ("lora_A", "lora_B")
VECTORS = ("scale_in", "scale_out")
NAMES = ("weight", "proj", "ключ", "\U0001d11e.w", "in_proj_weight", "a b")
FILES = ("tokenizer.json", "vocab.txt", "bpe.codes", "merges.txt")
SEVERAL_LANES = [93, 89]
Fields = tuple[str, ...]
Owner = tuple[int, int, int, str]
"""Rank, sides and dtype of the factors of an adapter, of which others may have parts."""


def numbers(chance: random.Random, dtype: str, shape: list[int]) -> Tensor:
    """A tensor of any bits of a floating dtype that keep products finite, zeros and subnormal numbers among them."""
    count = int(np.prod(shape, dtype=int))
    kinds = [[0.0, -0.0, 1e-40, -6e-8, 1.0], [chance.gauss(0, 1) * 2.0 ** chance.randrange(-12, 4) for _ in range(9)]]
    drawn = [chance.choice(kinds[chance.random() < 0.9]) * chance.uniform(0.5, 2) for _ in range(count)]
    return Tensor(dtype, shape, little_endian(to_bits(np.array(drawn, np.float32), dtype)))


def any_tensor(chance: random.Random, dtype: str, shape: list[int]) -> Tensor:
    """A tensor of any dtype."""
    if dtype in FLOATS:
        return numbers(chance, dtype, shape)
    size = int(np.prod(shape, dtype=int)) * TYPES[dtype][1]
    return Tensor(dtype, shape, bytes(chance.randrange(2 if dtype == "bool" else 256) for _ in range(size)))


def coded(chance: random.Random, dtype: str, shape: list[int]) -> tuple[str, Tensor, Tensor | None]:
    """A coding for a dtype, and codes and scales that it allows."""
    count = int(np.prod(shape, dtype=int))
    of_floats = ["int8-block64", "normal4-block64", *(["trellis8"] if count else [])] if dtype in FLOATS else []
    coding = chance.choice(["planes-zlib", *of_floats, *(["float16", "bfloat16"] if dtype == "float32" else [])])
    if coding == "planes-zlib":
        data = planes(any_tensor(chance, dtype, shape).data, TYPES[dtype][1])
        return coding, as_stream(zlib.compress(data, chance.randrange(10))), None
    if coding in ("float16", "bfloat16"):
        return coding, numbers(chance, coding, shape), None
    if coding == "trellis8":
        return coding, trellis.codes(trellised(chance, shape)), None
    scales = [chance.choice((0, 1, 0x3FF, 0x400, chance.randrange(0x4C00))) for _ in range(-(-count // 64))]
    if coding == "int8-block64":
        codes = [chance.randrange(-127, 128) if scales[i // 64] else 0 for i in range(count)]
        return coding, int8_tensor(codes), scales_tensor(scales)
    codes = [chance.randrange(16) if scales[i // 64] else 8 for i in range(count)]
    return coding, nibbles(codes), scales_tensor(scales)


def trellised(chance: random.Random, shape: list[int]) -> bytes:
    """The codes of random levels, in either order, with or without classes of rows."""
    order, wide = chance.randrange(2), chance.choice((0.4, 3, 40, 4000))
    rows, columns = trellis.matrix(shape)
    levels = [max(-32767, min(32767, round(chance.gauss(0, wide)))) for _ in range(rows * columns)]
    lines = columns if order else rows
    kinds = chance.choice((1, 1, 2, 16))
    classes = [chance.randrange(kinds) for _ in range(lines)] if kinds > 1 else None
    if classes:
        classes = [sorted(set(classes)).index(kind) for kind in classes]
        classes = classes if max(classes) else None
    return trellis.coded(levels, shape, chance.randrange(0x2F80, 0x3E00), order, classes)


def scale_of(chance: random.Random) -> float:
    """A binary32 number under which every table gives normal numbers, also in float16."""
    return float(np.float32(chance.uniform(1, 2) * 2.0 ** chance.randrange(-14, 8)))


def seeded_factor(chance: random.Random) -> tuple[str, float]:
    """Distribution and scale of a factor from the seed."""
    return chance.choice([table for table in TABLES if table != "hadamard"]), scale_of(chance)


def slices_of(chance: random.Random, model: Model, part_of: Owner, owners: dict[str, Owner]) -> dict[str, str]:
    """By factor, an adapter of whose factor a smaller one may be a part."""
    found = {}
    for part, others in (("lora_A", (0, 2)), ("lora_B", (0, 1))):
        fitting = [
            name
            for name, whole in owners.items()
            if whole[3] == part_of[3]
            and all(whole[side] >= part_of[side] for side in others)
            and model.parameters[name]["adapter"][part].get("coding", {}).get("id") != "slice"
        ]
        if fitting and chance.random() < 0.7:
            found[part] = chance.choice(fitting)
    return found


def add_adapted(chance: random.Random, model: Model, name: str, owners: dict[str, Owner]) -> None:
    """A weight with an adapter, and perhaps with parts of those of ``owners``."""
    batch = chance.choice((0, 0, 0, 1, 2))
    shape = [chance.randrange(1, 4) for _ in range(batch)] + [
        chance.randrange(1, 9) for _ in range(chance.choice((2, 2, 3)))
    ]
    turned = chance.random() < 0.5
    first, rest = shape[batch], int(np.prod(shape[batch + 1 :]))
    d_out, d_in = (rest, first) if turned else (first, rest)
    lambdas = chance.random() < 0.4
    rank = chance.randrange(1, 12 if lambdas else min(d_out, d_in) + 1) if chance.random() < 0.9 or lambdas else 0
    dtype, adapter_dtype = chance.choice(FLOATS), chance.choice((*FLOATS, "float32", "float32"))
    vectors = tuple(part for part in VECTORS if chance.random() < 0.3) + (("lambda_b", "lambda_d") if lambdas else ())
    drawn = {part: seeded_factor(chance) for part in FACTORS if rank and chance.random() < 0.3}
    slices = {} if batch or not rank else slices_of(chance, model, (rank, d_out, d_in, adapter_dtype), owners)
    model.adapted(
        name,
        shape,
        dtype,
        chance.choice(TABLES),
        scale_of(chance),
        rank=rank,
        alpha=chance.choice((8.0, 1.0, 0.1, chance.uniform(0.01, 99))),
        scaling=chance.choice(("lora", "rslora")),
        fan_in_fan_out=turned,
        beta=chance.random() < 0.5 or not (rank or set(vectors) & set(VECTORS)),
        adapter_dtype=adapter_dtype,
        magnitude=chance.random() < 0.3,
        drawn={part: factor for part, factor in drawn.items() if part not in slices},
        batch_dims=batch,
        shared_factor=chance.choice((None, *FACTORS)) if batch and rank else None,
        vectors=vectors,
        slices=slices,
    )
    for part in [*model.parameters[name]["adapter"]]:
        full = adapter_prefix(name) + part
        if full not in model.tensors:
            continue
        held = model.tensors[full]
        if chance.random() < 0.3:
            model.coded_adapter(name, part, *coded(chance, adapter_dtype, held.shape), dtype=adapter_dtype)
        else:
            model.tensors[full] = made = numbers(chance, adapter_dtype, held.shape)
            model.parameters[name]["adapter"][part]["sha256"] = made.sha256
    model.merge(name)
    if not batch and rank:
        owners[name] = rank, d_out, d_in, adapter_dtype


def model_of(chance: random.Random, seed: int) -> Model:
    """A model of up to six parameters."""
    model = Model(sequential(linear(2, 2)), seed)
    bits = chance.choice((1, 2, 4, 8))
    own = [chance.choice((0.0, chance.gauss(0, 1))) for _ in range(2**bits)]
    words = to_bits(np.array([value if abs(value) > 1e-3 else 0.0 for value in own], np.float32), "float32")
    model.table("own", bits, words.tolist())
    owners: dict[str, Owner] = {}
    for number in range(chance.randrange(1, 7)):
        name = f"{number}.{chance.choice(NAMES)}"
        kind = chance.randrange(8)
        shape = [chance.choice((1, 2, 3, 5, 8, 13)) for _ in range(chance.randrange(4))]
        dtype = chance.choice([*TYPES, *FLOATS, *FLOATS])
        if kind < 4:
            add_adapted(chance, model, name, owners)
        elif kind == 4:
            model.seeded(name, shape, chance.choice(FLOATS), chance.choice(TABLES), scale_of(chance))
        elif kind == 5:
            model.stored(name, any_tensor(chance, dtype, chance.choice((shape, [0, 3]))))
        elif kind == 6:
            shape = SEVERAL_LANES if chance.random() < 0.02 else shape
            model.coded(name, dtype, shape, *coded(chance, dtype, shape))
        else:
            value = chance.choice(("00", "01")) if dtype == "bool" else chance.randbytes(TYPES[dtype][1]).hex()
            model.constant(name, shape, dtype, value)
    for number in range(chance.randrange(3)):
        name = f"tie{number}"
        model.tied(name, chance.choice([*model.parameters]))
    for name in chance.sample(FILES, chance.randrange(3)):
        data = chance.randbytes(chance.randrange(40))
        model.beside(name, data, chance.choice((None, as_stream(zlib.compress(data)))))
    return model


def on_scaffold(model: Model, seed: int) -> Model:
    """The same model on another seed. Factors from the seed are those of the first."""
    twin = copy.deepcopy(model)
    twin.seed = seed
    for name, entry in twin.parameters.items():
        if "fingerprint" not in entry:
            continue
        bits = twin.generated(name, *(entry[field] for field in ("shape", "dtype", "distribution", "scale")))
        entry["fingerprint"] = fingerprint(bits)
        twin.plain[name] = little_endian(bits)
        if "adapter" in entry:
            twin.merge(name)
    return twin


def sound(chance: random.Random, path: Path, allowed: int) -> Iterator[tuple[Fields, Fields]]:
    """Write packs, and yield requests of the protocol with the answers that are due."""
    while True:
        model = model_of(chance, chance.randrange(2**64))
        scaffolds = {"default": model}
        for number in range(chance.choice((0, 0, 1, 3))):
            scaffolds[f"s{number}"] = twin = on_scaffold(model, chance.randrange(2**64))
            model.scaffold(f"s{number}", twin)
        path.write_bytes(model.file())
        yield ("check", str(path), str(allowed)), ("ok",)
        for scaffold, twin in scaffolds.items():
            digests = {name: digest(twin.plain[owner(twin, name)]) for name in twin.parameters}
            prints = {name: entry["fingerprint"] for name, entry in twin.parameters.items() if "fingerprint" in entry}
            yield ("weights", str(path), scaffold), answer(digests)
            yield ("fingerprints", str(path), scaffold), answer(prints)
        yield ("files", str(path)), answer({name: digest(data) for name, data in model.files.items()})


def digest(data: bytes) -> str:
    """The SHA-256."""
    return hashlib.sha256(data).hexdigest()


def owner(model: Model, name: str) -> str:
    """The parameter at the end of a parameter's ties."""
    while model.parameters[name]["role"] == "tied":
        name = model.parameters[name]["to"]
    return name


def answer(values: dict[str, str]) -> Fields:
    """The fields of an answer with names and values. The names here need no escapes."""
    return "ok", *(field for name in sorted(values) for field in (name, values[name]))
