"""An open pack: the checked header and descriptor, and its tensors on demand."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from io import BufferedReader
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lottapack import rng
from lottapack.codecs import CODECS
from lottapack.codecs.faults import CodingFaultError
from lottapack.display import clean
from lottapack.errors import AgreementError, ContainerError, DescriptorError, IntegrityError, Problem
from lottapack.files.paths import path_of
from lottapack.format import canonical, codings, container, dtypes, validate
from lottapack.format.coded import CodedTensor, adapter_entries
from lottapack.format.container import GET_AGAIN, TensorInfo
from lottapack.format.descriptor import (
    DEFAULT_SCAFFOLD,
    FACTORS,
    Adapted,
    Coding,
    Descriptor,
    Parameter,
    Seeded,
    Stored,
    Tied,
)
from lottapack.format.expected import VALUE, check_agreement, expected_parts
from lottapack.format.names import adapter_prefix, table_tensor
from lottapack.format.scaffolds import place_of
from lottapack.format.shapes import numel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PackFile", "open_pack"]

_PIECE = 1 << 20
_ENDED = "bytes that are missing: the file ended early"

Held = str | TensorInfo | CodedTensor
"""What can be read: a stored parameter, by its name; a tensor of the file; or a coded tensor of an adapter."""


class PackFile:
    """A pack whose header passed every check; a context manager that keeps the file open.

    Attributes:
        path: the path that was opened.
        descriptor: the checked records, for the chosen scaffold alone.
        whole: the records of all scaffolds, as in the file.
        scaffold: the chosen scaffold's name.
        tensors: TensorInfo by name. Each tensor belongs to one entry, and is checked when it is read.
        file_size: the bytes of the whole file. ``data_start``: the bytes before the tensors' data.
    """

    def __init__(self, path: Path, file: BufferedReader, scaffold: str = DEFAULT_SCAFFOLD) -> None:
        self.path = path
        self._file = file
        self._lock = threading.Lock()
        self._sharing = threading.Lock()
        self._owners: dict[str, NDArray[Any]] = {}
        header = container.read_header(file, str(path))
        self.whole: Descriptor = validate.parse(header.descriptor, str(path))
        self.scaffold = scaffold
        self.descriptor = self.whole.on_scaffold(scaffold)
        self.tensors = header.tensors
        self.data_start = header.data_start
        self.file_size = header.file_size
        self._hashed = header.hashed
        self.sha256 = check_agreement(self.descriptor, self.tensors, str(path))
        self.tables = {table_id: self._read_table(table_id) for table_id in self.descriptor.rng.tables}
        self._check_own_tables()

    def __enter__(self) -> "PackFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PackFile {clean(self.path)}: {self.descriptor.architecture.class_}, {len(self.tensors)} tensors>"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def parts(self, parameter: str) -> dict[str, TensorInfo]:
        """Return the tensors in the file of a parameter, by part; a plain stored parameter has one part, ``value``."""
        entry = self.descriptor.parameters[parameter]
        return {expected.part: self.tensors[expected.name] for expected in expected_parts(parameter, entry)}

    def adapter(self, parameter: str) -> dict[str, TensorInfo | CodedTensor]:
        """Return the tensors of a parameter's adapter by their last names."""
        entry = self.descriptor.parameters[parameter]
        tensors: dict[str, TensorInfo | CodedTensor] = {}
        if isinstance(entry, Adapted):
            for part, whole, tensor in adapter_entries(parameter, entry):
                coding = codings.coding_of(tensor)
                tensors[part] = self.tensors[whole] if coding is None else self._coded(whole, tensor, coding)
        return tensors

    def coded(self, held: Held) -> CodedTensor | None:
        """Return the coded tensor that must be decoded to read this, or None if the file holds it plain."""
        if not isinstance(held, str):
            return held if isinstance(held, CodedTensor) else None
        entry = self.descriptor.parameters[held]
        coding = codings.coding_of(entry)
        return None if coding is None or not isinstance(entry, Stored) else self._coded(held, entry, coding)

    def _coded(self, name: str, entry: Stored, coding: Coding) -> CodedTensor:
        infos = tuple(self.tensors[f"{name}.{part}"] for part in coding.parts())
        return CodedTensor(name, entry, coding, infos)

    def read_into(self, held: Held, buffer: Any) -> None:
        """Read into ``buffer`` (contiguous, writable, of the right size) and check the SHA-256.

        A coded parameter is decoded. The hash is that of the copy, so a file that changes meanwhile is detected.
        Raises IntegrityError.
        """
        coded = self.coded(held)
        if coded is not None:
            self._decode_into(coded, buffer)
            return
        info = self.as_it_is(held)
        if info is None:
            raise KeyError(f"the file does not hold {held}")
        view = memoryview(buffer).cast("B") if info.nbytes else memoryview(b"")
        done = self._fill(view, info.begin)
        digest = hashlib.sha256(view).hexdigest() if done == info.nbytes else _ENDED
        self._compare(info, digest, not (info.dtype == "bool" and any(byte > 1 for byte in view)))

    def pieces(self, info: TensorInfo, size: int = _PIECE) -> Iterator[bytearray]:
        """Yield a tensor's bytes, ``size`` at a time, then check their SHA-256.

        Do not trust the pieces before the iterator is exhausted. Raises IntegrityError.
        """
        digest, plain, done = hashlib.sha256(), True, 0
        while done < info.nbytes:
            piece = bytearray(min(size, info.nbytes - done))
            filled = self._fill(memoryview(piece), info.begin + done)
            if filled < len(piece):
                break
            digest.update(piece)
            plain = plain and not (info.dtype == "bool" and any(byte > 1 for byte in piece))
            done += filled
            yield piece
        self._compare(info, digest.hexdigest() if done == info.nbytes else _ENDED, plain)

    def _fill(self, view: memoryview, begin: int) -> int:
        """Read the tensors' data from byte ``begin`` on. Returns how many bytes were there."""
        filled = 0
        with self._lock:
            self._file.seek(self.data_start + begin)
            while filled < len(view) and (count := self._file.readinto(view[filled:])):
                filled += count
        return filled

    def _decode_into(self, coded: CodedTensor, buffer: Any) -> None:
        name, entry, coding, infos = coded
        tensors = dict(zip(coding.parts(), infos, strict=True))
        view = memoryview(bytearray()) if 0 in entry.shape else memoryview(buffer).cast("B")
        parts = {part: self.read_bytes(info) for part, info in tensors.items()}
        try:
            if coding.id == codings.SEEDED:
                self._draw_into(coded, view)
            elif coding.id == codings.SLICE:
                self._slice_into(coded, view)
            else:
                CODECS[coding.id].decode(parts, entry.shape, entry.dtype, view)
        except CodingFaultError as fault:
            where = tensors[fault.part].name if fault.part else name
            raise IntegrityError(
                str(self.path),
                [Problem("coding", where, f"{fault.message} ({coding.id})")],
                hint="A faulty program wrote this file, or it was changed. Get it again from its author.",
            ) from fault
        digest = hashlib.sha256(view).hexdigest()
        self._compare(coded, digest, not (entry.dtype == "bool" and any(byte > 1 for byte in view)))

    def _draw_into(self, coded: CodedTensor, view: memoryview) -> None:
        """Generate a tensor of an adapter, which is the same on every scaffold."""
        import numpy as np

        entry, coding = coded.entry, coded.coding
        source = rng.Source(
            self.whole.seed, coded.name, self._table(str(coding.distribution)), cast("float", coding.scale), entry.dtype
        )
        rng.fill_bits(np.frombuffer(view, f"<u{dtypes.ITEMSIZE[entry.dtype]}"), source)

    def _slice_into(self, coded: CodedTensor, view: memoryview) -> None:
        """Copy the first rows and columns of another adapter's factor."""
        import numpy as np

        part = coded.name[-len(FACTORS[0]) :]
        owner = self._owner(str(coded.coding.of), part)
        rows, columns = coded.entry.shape
        np.frombuffer(view, owner.dtype).reshape(rows, columns)[...] = owner[:rows, :columns]

    def _owner(self, parameter: str, part: str) -> "NDArray[Any]":
        """Return a factor of which others are parts. The last two stay in memory: usually every layer's."""
        with self._sharing:
            held = self.adapter(parameter)[part]
            name = adapter_prefix(parameter) + part
            if name not in self._owners:
                while len(self._owners) >= len(FACTORS):
                    del self._owners[next(iter(self._owners))]
                self._owners[name] = self.read(held)
            return self._owners[name]

    def _table(self, table_id: str) -> "rng.Table":
        return self.tables.get(table_id) or rng.builtin(table_id)

    def as_it_is(self, held: Held) -> TensorInfo | None:
        """Return the tensor of the file that read_into() copies, or None if it decodes."""
        info = self.parts(held).get(VALUE) if isinstance(held, str) else held
        return info if isinstance(info, TensorInfo) else None

    def form(self, held: Held) -> tuple[str, tuple[int, ...]]:
        """Return the dtype and the shape of what read_into() gives."""
        if not isinstance(held, str):
            return held.dtype, held.shape
        entry = self.descriptor.parameters[held]
        if not isinstance(entry, Stored):
            raise KeyError(f"the file does not hold {held}")
        return entry.dtype, entry.shape

    def held_bytes(self, name: str) -> int:
        """Return the bytes that the file holds for a parameter."""
        return sum(info.nbytes for info in self.parts(name).values())

    def check(self, info: TensorInfo) -> None:
        """Check a tensor's SHA-256 piece by piece, without keeping it. Raises IntegrityError."""
        for _ in self.pieces(info):
            pass

    def check_tensors(self) -> None:
        """Check the SHA-256 of every tensor of the file. Raises IntegrityError."""
        for info in self.tensors.values():
            self.check(info)

    def read(self, held: Held) -> "NDArray[Any]":
        """Return a checked NumPy array in the shape of form(); ``bfloat16`` as ``uint16`` bits."""
        import numpy as np

        dtype, shape = self.form(held)
        array: NDArray[Any] = np.empty(shape, "uint16" if dtype == "bfloat16" else dtype)
        self.read_into(held, array.reshape(-1).data)
        return array

    def read_bytes(self, held: Held) -> bytearray:
        """Return checked bytes."""
        dtype, shape = self.form(held)
        data = bytearray(numel(shape) * dtypes.ITEMSIZE[dtype])
        self.read_into(held, data)
        return data

    def file_sha256(self) -> str:
        """Return the SHA-256 of the open file, even if its path names another file by now.

        It covers the header as it was checked, and the data as they are: a tensor that is read must match the header.
        So this number identifies everything that the pack can give, even if someone writes to the file meanwhile.
        """
        digest, buffer = self._hashed.copy(), memoryview(bytearray(_PIECE))
        with self._lock:
            self._file.seek(self.data_start)
            while count := self._file.readinto(buffer):
                digest.update(buffer[:count])
        return digest.hexdigest()

    def copy_to(self, target: BinaryIO) -> None:
        """Copy the whole open file into another one."""
        with self._lock:
            self._file.seek(0)
            shutil.copyfileobj(self._file, target, 1 << 20)

    def fingerprint_place(self, name: str) -> str:
        """Return the location that errors use for the fingerprint of a generated parameter."""
        return name if self.scaffold == DEFAULT_SCAFFOLD else place_of(self.scaffold, name)

    def source(self, name: str) -> rng.Source:
        """Return the stream of a generated parameter, which must not be drawn by ``torch-cpu``."""
        entry = self.descriptor.parameters[name]
        if not isinstance(entry, Seeded | Adapted):
            raise KeyError(f"the parameter {name} is not generated")
        table = self._table(entry.distribution)
        return rng.Source(self.descriptor.seed, name, table, entry.scale, entry.dtype, entry.shape)

    def declared_bytes(self, dtype: str | None = None) -> int:
        """Return the bytes of the rebuilt plain model, without ties; ``dtype`` replaces that of floating tensors."""
        names = (name for name, entry in self.descriptor.parameters.items() if not isinstance(entry, Tied))
        return sum(self.declared_bytes_of(name, dtype) for name in names)

    def declared_bytes_of(self, name: str, dtype: str | None = None) -> int:
        """Return the bytes of one untied parameter of the rebuilt plain model."""
        entry = self.descriptor.parameters[name]
        assert not isinstance(entry, Tied)
        return numel(entry.shape) * dtypes.ITEMSIZE[dtype if dtype and "float" in entry.dtype else entry.dtype]

    def _compare(self, held: TensorInfo | CodedTensor, digest: str, plain: bool) -> None:
        """Compare the SHA-256. ``plain``: whether the bytes of a bool tensor are all 0 or 1."""
        if isinstance(held, TensorInfo):
            name, recorded, what = held.name, self.sha256[held.name], "has the SHA-256"
        else:
            name, recorded, what = held.name, held.entry.sha256, "decodes to bytes with the SHA-256"
        if digest != recorded:
            problem = Problem("sha256", name, f"{what} {digest}, recorded is {recorded}")
            raise IntegrityError(str(self.path), [problem], hint="Get the file again from its source.")
        if not plain:
            raise IntegrityError(
                str(self.path),
                [Problem("bool", name, "contains bytes other than 0 and 1")],
                hint=GET_AGAIN,
            )

    def _read_table(self, table_id: str) -> "rng.Table":
        name = table_tensor(table_id)
        values = self.read(self.tensors[name])
        fault = rng.table_fault(values)
        if fault:
            raise AgreementError(
                str(self.path),
                [Problem("table", name, fault)],
                hint=GET_AGAIN,
            )
        return rng.custom(table_id, values)

    def _check_own_tables(self) -> None:
        problems = []
        for name, entry in self.descriptor.parameters.items() if self.tables else ():
            place = f"parameters[{canonical.dumps(name).decode()}]"
            for where, distribution, scale, dtype in _scaled(entry, place):
                fault = distribution in self.tables and rng.scale_fault(self.tables[distribution], scale, dtype)
                if fault:
                    problems.append(Problem("scale", f"{where}.scale", fault))
        if problems:
            raise DescriptorError(str(self.path), problems, hint=GET_AGAIN)


def _scaled(entry: Parameter, place: str) -> Iterator[tuple[str, str, float, str]]:
    """Yield place, distribution, scale and dtype of what of a parameter comes from the seed."""
    if isinstance(entry, Seeded | Adapted):
        yield place, entry.distribution, entry.scale, entry.dtype
    if isinstance(entry, Adapted):
        for part, tensor in entry.adapter.tensors().items():
            if isinstance(tensor.coding, Coding) and tensor.coding.id == codings.SEEDED:
                where = f"{place}.adapter.{part}.coding"
                yield where, str(tensor.coding.distribution), cast("float", tensor.coding.scale), tensor.dtype


def open_pack(path: str | PathLike[str], scaffold: str | None = None) -> PackFile:
    """Open a pack and check its header, descriptor and their agreement. Needs no torch and generates no weights.

    Args:
        path: the pack.
        scaffold: on which of the pack's scaffolds the model stands; by default on that of its main seed.

    Returns:
        The open pack, a context manager.

    Raises:
        ContainerError: the file is not a readable pack.
        DescriptorError: the descriptor breaks the format.
        AgreementError: tensors and descriptor contradict each other.
        IntegrityError: a table in the pack is damaged.
        ScaffoldError: the pack does not hold the scaffold.

    Source:
        spec/v1/container.md and spec/v1/refusals.md.

    Examples:
        >>> with lottapack.open_pack("model.lotta.safetensors") as pack:
        ...     pack.descriptor.rng.seed
        '000000000000002a'
    """
    where = path_of(path, "path")
    file = container.open_binary(where)
    try:
        return PackFile(where, file, DEFAULT_SCAFFOLD if scaffold is None else scaffold)
    except OSError as fault:
        file.close()
        problem = Problem("length", "file", fault.strerror or str(fault))
        raise ContainerError(str(where), [problem], hint=GET_AGAIN) from fault
    except BaseException:
        file.close()
        raise
