"""The Python reader behind the protocol of spec/v1/conformance.md, at the level judge.

python python_reader.py [numpy|torch]: what computes bits. ``numpy``, the default, is the code that works without
kernels and torch; with ``torch``, weights are loaded into a module if it is of torch.nn.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from lottapack import rng, verify
from lottapack.codecs import CODECS, trellis_stream
from lottapack.codecs.faults import CodingFaultError
from lottapack.errors import (
    ArchitectureError,
    FormatError,
    IntegrityError,
    LimitError,
    UnsupportedError,
)
from lottapack.format import canonical, dtypes
from lottapack.format.descriptor import FACTORS
from lottapack.format.files import content, files_of
from lottapack.format.names import ADAPTER_PARTS
from lottapack.format.packfile import open_pack
from lottapack.format.recipe import scaling_factor
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.rng import backends
from lottapack.rng.reference import philox4x32
from lottapack.weights import arrays
from lottapack.weights.loaded_size import peak_bytes
from lottapack.weights.merge_arrays import merge_adapter

SECTIONS = {"ContainerError": "container", "DescriptorError": "descriptor", "AgreementError": "agreement"}
DEFAULT = "default"


def without_kernels() -> None:
    """Let NumPy compute what kernels do otherwise."""

    def missing(*_: object) -> int:
        raise UnsupportedError("kernels are not used here")

    backends.numba_works = lambda: False  # type: ignore[assignment]
    trellis_stream._DECODE = missing  # type: ignore[assignment, misc]


def digest(data: Any) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(data).hexdigest()


def refusal(error: Exception) -> list[str]:
    """Return the fields of an error."""
    if isinstance(error, LimitError):
        return ["refused", "limit", "limit", "parameters"]
    assert isinstance(error, FormatError | IntegrityError)
    problem = error.problems[0]
    return ["refused", SECTIONS.get(type(error).__name__, "contents"), problem.kind, problem.where]


def check(path: str, allowed: str) -> list[str]:
    """Check a pack."""
    try:
        result = verify(path, max_bytes=int(allowed), build=False)
    except (FormatError, IntegrityError, LimitError) as error:
        return refusal(error)
    failed = next((check for check in result.checks if check.status == "failed"), None)
    return ["ok"] if failed is None else ["refused", "contents", failed.what, failed.where]


def opened(path: str, allowed: str) -> list[str]:
    """Check all of a pack but its contents."""
    with open_pack(path) as pack:
        check_memory(path, peak_bytes(pack), int(allowed))
    return ["ok"]


def weights(path: str, scaffold: str) -> list[str]:
    """Return the digest of each merged weight, whole and in pieces."""
    with open_pack(path, scaffold) as pack:
        answer = ["ok"]
        for name in sorted(pack.descriptor.parameters):
            owner = pack.descriptor.resolve(name)
            whole = digest(np.ascontiguousarray(arrays.whole(pack, owner)))
            pieces = hashlib.sha256()
            for piece in arrays.pieces(pack, owner):
                pieces.update(np.ascontiguousarray(piece))
            answer += [name, whole if pieces.hexdigest() == whole else "pieces differ"]
    return answer


def loaded_weights(path: str, scaffold: str) -> list[str]:
    """Return the same of a module, or of arrays if it is not of torch.nn."""
    import torch

    from lottapack import load

    with open_pack(path) as pack:
        if pack.descriptor.architecture.family != "torch.nn":
            return weights(path, scaffold)
    try:
        model = load(path, merge=True, scaffold=None if scaffold == DEFAULT else scaffold, check_fingerprints=True)
    except ArchitectureError:
        return weights(path, scaffold)
    answer = ["ok"]
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().contiguous().reshape(-1)
        answer += [name, digest(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")]
    return answer


def fingerprints(path: str, scaffold: str) -> list[str]:
    """Return the fingerprint of each generated parameter, as rebuilt."""
    with open_pack(path, scaffold) as pack:
        answer = ["ok"]
        for name, entry in sorted(pack.descriptor.parameters.items()):
            if hasattr(entry, "fingerprint"):
                answer += [name, rng.fingerprint_hex(rng.fingerprint_of(pack.source(name), numel(entry.shape)))]
    return answer


def files(path: str) -> list[str]:
    """Return the digest of each file beside the model."""
    with open_pack(path) as pack:
        found = [[name, digest(content(pack, name))] for name in sorted(files_of(pack.descriptor))]
    return ["ok", *(field for pair in found for field in pair)]


def texts(text: str) -> list[str]:
    """Read a text as canonical JSON."""
    try:
        canonical.view(raw(text))
    except FormatError as error:
        return ["refused", error.problems[0].kind]
    return ["ok"]


def raw(text: str) -> bytes:
    """Return the bytes of hexadecimal digits."""
    return b"" if text == "-" else bytes.fromhex(text)


def sizes(text: str) -> tuple[int, ...]:
    """Return sizes with commas between them."""
    return () if text == "-" else tuple(map(int, text.split(",")))


def words(text: str) -> tuple[int, ...]:
    """Return words in hexadecimal digits with spaces between them."""
    return tuple(int(word, 16) for word in text.split(" "))


def philox(counter: str, key: str) -> list[str]:
    """Return four words."""
    c0, c1, c2, c3 = words(counter)
    k0, k1 = words(key)
    return [" ".join(f"{int(word):08x}" for word in philox4x32((c0, c1, c2, c3), (k0, k1)))]


def elements(
    name: str, seed: str, table: str, bits: str, scale: str, dtype: str, start: str, count: str, shape: str
) -> list[str]:
    """Return the digest of elements, and their fingerprint."""
    if table in rng.BUILTIN:
        made = rng.builtin(table)
    else:
        made = rng.custom("own", np.resize(np.frombuffer(raw(table), np.float32), 2 ** int(bits)))
    source = rng.Source(int(seed, 16), name, made, float(scale), dtype, sizes(shape))
    out = np.empty(int(count), np.uint32 if dtype == "float32" else np.uint16)
    rng.fill_bits(out, source, int(start))
    return [digest(out), rng.fingerprint_hex(rng.fingerprint_bits(out, int(start)))]


def decode(coding: str, dtype: str, shape: str, codes: str, scales: str) -> list[str]:
    """Return the digest of decoded bytes."""
    given = {"codes": raw(codes), "scales": raw(scales)}
    parts = {part: given[part] for part in CODECS[coding].fields}
    out = bytearray(numel(sizes(shape)) * dtypes.ITEMSIZE[dtype])
    try:
        CODECS[coding].decode(parts, sizes(shape), dtype, memoryview(out))
    except CodingFaultError as fault:
        return ["refused", "contents", "coding", fault.message]
    return [digest(out)]


def adapter_of(dims: tuple[int, ...], shared: str, given: Iterable[str], dtype: str) -> dict[str, Any]:
    """Return the tensors of an adapter, in float32; those of a batch have its dimension first."""
    batch, _, _, rank = dims
    made = {}
    for part, text in zip(ADAPTER_PARTS, given, strict=True):
        if text != "-":
            bits = np.frombuffer(raw(text), arrays.numpy_dtype(dtype))
            own = (-1,) if part not in FACTORS else (rank, -1) if part == "lora_A" else (-1, rank)
            of_batch = () if part in ("beta", shared) else (batch,)
            if part == "lora_B" and of_batch:
                own = (bits.size // batch // rank, rank)
            made[part] = arrays.values(bits, dtype).astype(np.float32).reshape(*of_batch, *own)
    return made


def merge(  # the fields of the request
    dims: str, turned: str, alpha: str, scaling: str, shared: str, dtype: str, of: str, weight: str, *given: str
) -> list[str]:
    """Return the digest of a merged weight."""
    batch, d_out, d_in, rank = sizes(dims)
    adapter = adapter_of(sizes(dims), shared, given, of)
    fan = turned == "true"
    entry: Any = SimpleNamespace(alpha=float(alpha), rank=rank, scaling=scaling, fan_in_fan_out=fan)
    shape = (batch, d_in, d_out) if fan else (batch, d_out, d_in)
    wide = arrays.values(np.frombuffer(raw(weight), arrays.numpy_dtype(dtype)), dtype).astype(np.float32)
    merged = [
        arrays.bits(
            merge_adapter(
                matrix, {part: arrays._of_matrix(held, part, number) for part, held in adapter.items()}, entry
            ),
            dtype,
        )
        for number, matrix in enumerate(wide.reshape(shape))
    ]
    return [digest(b"".join(matrix.tobytes() for matrix in merged))]


def merge_in_torch(
    dims: str, turned: str, alpha: str, scaling: str, shared: str, dtype: str, of: str, weight: str, *given: str
) -> list[str]:
    """Return the same by torch."""
    import torch

    from lottapack.weights.merge import merged

    batch, d_out, d_in, rank = sizes(dims)
    adapter = adapter_of(sizes(dims), shared, given, of)
    parts = [
        torch.from_numpy(adapter[part]).to(getattr(torch, of)) if part in adapter else None for part in ADAPTER_PARTS
    ]
    shape = (batch, d_in, d_out) if turned == "true" else (batch, d_out, d_in)
    bits = np.frombuffer(raw(weight), "i4" if dtype == "float32" else "i2").copy()
    backbone = torch.from_numpy(bits).view(getattr(torch, dtype)).reshape(shape)
    if all(part is None or part.dim() < 2 + (name in FACTORS) for name, part in zip(ADAPTER_PARTS, parts, strict=True)):
        backbone = backbone[0] if batch == 1 else backbone
    factor = scaling_factor(float(alpha), rank, scaling)
    out = merged(backbone, *parts, scaling=factor, fan_in_fan_out=turned == "true")
    return [digest(out.contiguous().view(torch.uint8).numpy().tobytes())]


ANSWERS: dict[str, Any] = {
    "hello": lambda _: ["1", "judge"],
    "check": check,
    "weights": weights,
    "fingerprints": fingerprints,
    "files": files,
    "json": texts,
    "philox": philox,
    "stream": lambda name: [f"{rng.stream_of(name):016x}"],
    "table": lambda table: [digest(np.ascontiguousarray(rng.builtin(table).values))],
    "elements": elements,
    "decode": decode,
    "merge": merge,
}
RULES = ANSWERS | {"check": opened}
WITH_TORCH = ANSWERS | {"weights": loaded_weights, "merge": merge_in_torch}


def answer_to(fields: Iterable[str], answers: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields of the answer to the fields of a request, both as they stand in a line."""
    request, *given = (json.loads(f'"{field}"') if "\\" in field else field for field in fields)
    if request not in answers:
        return ("unsupported",)
    try:
        answer = answers[request](*given)
    except (FormatError, IntegrityError, LimitError) as error:
        answer = refusal(error)
    return tuple(canonical.dumps(field).decode()[1:-1] for field in answer)


def main() -> None:
    """Answer until the input ends."""
    answers = WITH_TORCH if sys.argv[1:] == ["torch"] else ANSWERS
    if answers is ANSWERS:
        without_kernels()
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    for line in sys.stdin:
        print("\t".join(answer_to(line.rstrip("\n").split("\t"), answers)), flush=True)


if __name__ == "__main__":
    main()
