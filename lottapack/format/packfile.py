"""An opened pack: checked header and descriptor, and its tensors on request."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from io import BufferedReader
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from lottapack import rng
from lottapack.errors import AgreementError, ContainerError, DescriptorError, IntegrityError, Problem
from lottapack.format import canonical, container, dtypes, validate
from lottapack.format.descriptor import (
    Adapted,
    Descriptor,
    Seeded,
    Stored,
    Tied,
    adapter_prefix,
    adapter_shapes,
    factor_dims,
    table_tensor,
)
from lottapack.format.shapes import numel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 1 << 20


def expected_tensors(descriptor: Descriptor) -> Iterator[tuple[str, str, str, tuple[int, ...], str]]:
    """Yield (tensor, owner, dtype, shape, sha256) for each tensor that the descriptor calls for."""
    for table_id, table in descriptor.rng.tables.items():
        yield table_tensor(table_id), f"rng.tables.{table_id}", "float32", (2**table.bits,), table.sha256
    for name, entry in descriptor.parameters.items():
        if isinstance(entry, Stored):
            yield name, name, entry.dtype, entry.shape, entry.sha256
        elif isinstance(entry, Adapted):
            d_out, d_in = factor_dims(entry.shape, entry.fan_in_fan_out)
            shapes = adapter_shapes(entry.rank, d_out, d_in)
            for part, tensor in entry.adapter.tensors().items():
                yield adapter_prefix(name) + part, name, tensor.dtype, shapes[part], tensor.sha256


class PackFile:
    """A pack that passed every check of its header; a context manager that holds the file open.

    Attributes:
        path: where it was opened.
        descriptor: the checked records.
        tensors: TensorInfo by name.
        file_size: bytes of the whole file; ``data_start``: bytes before the tensors' data.
    """

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self.path = path
        self._file = file
        self._lock = threading.Lock()
        header = container.read_header(file, str(path))
        self.descriptor: Descriptor = validate.parse(header.descriptor, str(path))
        self.tensors = header.tensors
        self.data_start = header.data_start
        self.file_size = header.file_size
        self._hashed = header.hashed
        self.sha256: dict[str, str] = {}
        self._check_agreement()
        self.tables = {table_id: self._read_table(table_id) for table_id in self.descriptor.rng.tables}
        self._check_own_tables()

    def __enter__(self) -> "PackFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_into(self, name: str, buffer: Any) -> None:
        """Copy a tensor's bytes into ``buffer`` (contiguous, writable, of the tensor's size) and check their SHA-256.

        The copy is what is hashed, so a file that changes meanwhile cannot slip through. Raises IntegrityError.
        """
        info = self.tensors[name]
        view = memoryview(buffer).cast("B") if info.nbytes else memoryview(b"")
        with self._lock:
            self._file.seek(self.data_start + info.begin)
            done = 0
            while done < info.nbytes:
                count = self._file.readinto(view[done:])
                if not count:
                    break
                done += count
        digest = hashlib.sha256(view).hexdigest() if done == info.nbytes else "nothing: the file ended early"
        self._compare(name, digest, not (info.dtype == "bool" and any(byte > 1 for byte in view)))

    def check(self, name: str) -> None:
        """Check a tensor's SHA-256 piece by piece, keeping nothing of it. Raises IntegrityError."""
        info, digest, left = self.tensors[name], hashlib.sha256(), self.tensors[name].nbytes
        buffer = memoryview(bytearray(min(left, _PIECE)))
        plain = True
        with self._lock:
            self._file.seek(self.data_start + info.begin)
            while left:
                count = self._file.readinto(buffer[: min(left, _PIECE)])
                if not count:
                    break
                digest.update(buffer[:count])
                plain = plain and not (info.dtype == "bool" and any(byte > 1 for byte in buffer[:count]))
                left -= count
        self._compare(name, "nothing: the file ended early" if left else digest.hexdigest(), plain)

    def read(self, name: str) -> "NDArray[Any]":
        """A tensor as a checked NumPy array; ``bfloat16`` as ``uint16`` bits. Shape as in the file."""
        import numpy as np

        info = self.tensors[name]
        dtype = "uint16" if info.dtype == "bfloat16" else info.dtype
        array: NDArray[Any] = np.empty(info.shape, dtype)
        self.read_into(name, array.reshape(-1).data)
        return array

    def read_bytes(self, name: str) -> bytearray:
        """A tensor's checked bytes."""
        data = bytearray(self.tensors[name].nbytes)
        self.read_into(name, data)
        return data

    def file_sha256(self) -> str:
        """The SHA-256 of the file that is open here, whatever lies at its path by now.

        Of the header as it was checked, and the data as they are: a tensor that is read is what the header records. So
        whoever knows this number knows all that this pack can give, even if someone writes to the file meanwhile.
        """
        digest, buffer = self._hashed.copy(), memoryview(bytearray(_PIECE))
        with self._lock:
            self._file.seek(self.data_start)
            while count := self._file.readinto(buffer):
                digest.update(buffer[:count])
        return digest.hexdigest()

    def copy_to(self, target: BinaryIO) -> None:
        """Write the whole file that is open here into another."""
        with self._lock:
            self._file.seek(0)
            shutil.copyfileobj(self._file, target, 1 << 20)

    def source(self, name: str) -> rng.Source:
        """The stream of a generated parameter. With ``torch-cpu`` there are none."""
        entry = self.descriptor.parameters[name]
        if not isinstance(entry, Seeded | Adapted):
            raise KeyError(f"{name} is not generated")
        table = self.tables.get(entry.distribution) or rng.builtin(entry.distribution)
        return rng.Source(self.descriptor.seed, name, table, entry.scale, entry.dtype)

    def declared_bytes(self, dtype: str | None = None) -> int:
        """Bytes of the rebuilt plain model, ties counted once; ``dtype`` replaces that of floating tensors."""
        total = 0
        for entry in self.descriptor.parameters.values():
            if not isinstance(entry, Tied):
                floating = "float" in entry.dtype
                total += numel(entry.shape) * dtypes.ITEMSIZE[dtype if dtype and floating else entry.dtype]
        return total

    def _compare(self, name: str, digest: str, plain: bool) -> None:
        """``plain``: whether the bytes of a bool tensor are all 0 or 1."""
        if digest != self.sha256[name]:
            problem = Problem("sha256", name, f"its SHA-256 is {digest}, recorded {self.sha256[name]}")
            raise IntegrityError(str(self.path), [problem], hint="Get the file again from where it came.")
        if not plain:
            raise IntegrityError(str(self.path), [Problem("bool", name, "holds bytes other than 0 and 1")])

    def _check_agreement(self) -> None:
        problems: list[Problem] = []
        owners: dict[str, str] = {}
        for tensor, owner, dtype, shape, sha256 in expected_tensors(self.descriptor):
            if tensor in owners:
                problems.append(Problem("two-roles", tensor, f"is called for by {owners[tensor]} and by {owner}"))
                continue
            owners[tensor] = owner
            self.sha256[tensor] = sha256
            info = self.tensors.get(tensor)
            if info is None:
                problems.append(Problem("missing", tensor, f"{owner} needs this tensor and the file lacks it"))
            elif (info.dtype, info.shape) != (dtype, shape):
                found, due = f"{info.dtype} {list(info.shape)}", f"{dtype} {list(shape)}"
                problems.append(Problem("mismatch", tensor, f"the file holds {found}, the descriptor says {due}"))
        unused = [name for name in self.tensors if name not in owners]
        problems += [Problem("unused", name, "no parameter calls for this tensor") for name in unused]
        if problems:
            raise AgreementError(str(self.path), problems)

    def _read_table(self, table_id: str) -> "rng.Table":
        name = table_tensor(table_id)
        values = self.read(name)
        fault = rng.table_fault(values)
        if fault:
            raise AgreementError(str(self.path), [Problem("table", name, fault)])
        return rng.custom(table_id, values)

    def _check_own_tables(self) -> None:
        problems = []
        for name, entry in self.descriptor.parameters.items():
            if isinstance(entry, Seeded | Adapted) and entry.distribution in self.tables:
                fault = rng.scale_fault(self.tables[entry.distribution], entry.scale, entry.dtype)
                if fault:
                    place = f"parameters[{canonical.dumps(name).decode()}].scale"
                    problems.append(Problem("scale", place, fault))
        if problems:
            raise DescriptorError(str(self.path), problems)


def open_pack(path: str | PathLike[str]) -> PackFile:
    """Open a pack and check its header, descriptor and their agreement; no torch, no weights.

    Raises ContainerError, DescriptorError, AgreementError; IntegrityError for a carried table.
    """
    where = Path(path)
    file = container.open_binary(where)
    try:
        return PackFile(where, file)
    except OSError as fault:
        file.close()
        problem = Problem("length", "file", fault.strerror or str(fault))
        raise ContainerError(str(where), [problem]) from fault
    except BaseException:
        file.close()
        raise
