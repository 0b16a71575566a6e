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
from lottapack.codecs.faults import CodingFaultError
from lottapack.errors import AgreementError, ContainerError, DescriptorError, IntegrityError, Problem
from lottapack.format import canonical, codings, container, dtypes, validate
from lottapack.format.coded import CodedTensor, adapter_entries
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import DEFAULT_SCAFFOLD, Adapted, Coding, Descriptor, Seeded, Stored, Tied
from lottapack.format.expected import VALUE, check_agreement, expected_parts
from lottapack.format.names import table_tensor
from lottapack.format.scaffolds import place_of
from lottapack.format.shapes import numel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PackFile", "open_pack"]

_PIECE = 1 << 20
_ENDED = "nothing: the file ended early"

Held = str | TensorInfo | CodedTensor
"""What is read: a stored parameter, by its name, a tensor of the file, or a coded one of an adapter."""


class PackFile:
    """A pack that passed every check of its header; a context manager that holds the file open.

    Attributes:
        path: where it was opened.
        descriptor: the checked records; of a scaffold other than the default one, those of the model on it alone.
        whole: the records of all scaffolds, as the file holds them.
        scaffold: the scaffold's name.
        tensors: TensorInfo by name. Each has one use, and each is checked when it is read.
        file_size: bytes of the whole file; ``data_start``: bytes before the tensors' data.
    """

    def __init__(self, path: Path, file: BufferedReader, scaffold: str = DEFAULT_SCAFFOLD) -> None:
        self.path = path
        self._file = file
        self._lock = threading.Lock()
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

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def parts(self, parameter: str) -> dict[str, TensorInfo]:
        """The tensors of the file that a parameter's entry calls for, by part: ``value`` if it lies there as it is."""
        entry = self.descriptor.parameters[parameter]
        return {due.part: self.tensors[due.name] for due in expected_parts(parameter, entry)}

    def adapter(self, parameter: str) -> dict[str, TensorInfo | CodedTensor]:
        """The tensors of a parameter's adapter, by their last names."""
        entry = self.descriptor.parameters[parameter]
        found: dict[str, TensorInfo | CodedTensor] = {}
        if isinstance(entry, Adapted):
            for part, whole, tensor in adapter_entries(parameter, entry):
                coding = codings.coding_of(tensor)
                found[part] = self.tensors[whole] if coding is None else self._coded(whole, tensor, coding)
        return found

    def coded(self, held: Held) -> CodedTensor | None:
        """What is decoded to read that, or None if it lies in the file as it is."""
        if not isinstance(held, str):
            return held if isinstance(held, CodedTensor) else None
        entry = self.descriptor.parameters[held]
        coding = codings.coding_of(entry)
        return None if coding is None or not isinstance(entry, Stored) else self._coded(held, entry, coding)

    def _coded(self, name: str, entry: Stored, coding: Coding) -> CodedTensor:
        infos = tuple(self.tensors[f"{name}.{part}"] for part in coding.parts())
        return CodedTensor(name, entry, coding, infos)

    def read_into(self, held: Held, buffer: Any) -> None:
        """Copy bytes into ``buffer`` (contiguous, writable, of their size) and check their SHA-256.

        A coded parameter is decoded. The copy is what is hashed, so a file that changes meanwhile cannot slip through.
        Raises IntegrityError.
        """
        coded = self.coded(held)
        if coded is not None:
            self._decode_into(coded, buffer)
            return
        info = self.as_it_is(held)
        if info is None:
            raise KeyError(f"{held} is not in the file")
        view = memoryview(buffer).cast("B") if info.nbytes else memoryview(b"")
        with self._lock:
            self._file.seek(self.data_start + info.begin)
            done = 0
            while done < info.nbytes:
                count = self._file.readinto(view[done:])
                if not count:
                    break
                done += count
        digest = hashlib.sha256(view).hexdigest() if done == info.nbytes else _ENDED
        self._compare(info, digest, not (info.dtype == "bool" and any(byte > 1 for byte in view)))

    def pieces(self, info: TensorInfo, size: int = _PIECE) -> Iterator[bytearray]:
        """A tensor's bytes, ``size`` at a time, then the check of their SHA-256.

        What was handed out counts only once the iterator has come to its end. Raises IntegrityError.
        """
        digest, plain, done = hashlib.sha256(), True, 0
        while done < info.nbytes:
            piece = bytearray(min(size, info.nbytes - done))
            with self._lock:
                self._file.seek(self.data_start + info.begin + done)
                filled = 0
                while filled < len(piece) and (count := self._file.readinto(memoryview(piece)[filled:])):
                    filled += count
            if filled < len(piece):
                break
            digest.update(piece)
            plain = plain and not (info.dtype == "bool" and any(byte > 1 for byte in piece))
            done += filled
            yield piece
        self._compare(info, digest.hexdigest() if done == info.nbytes else _ENDED, plain)

    def _decode_into(self, coded: CodedTensor, buffer: Any) -> None:
        name, entry, coding, infos = coded
        tensors = dict(zip(coding.parts(), infos, strict=True))
        view = memoryview(bytearray()) if 0 in entry.shape else memoryview(buffer).cast("B")
        parts = {part: self.read_bytes(info) for part, info in tensors.items()}
        try:
            codings.decode_into(entry, coding, parts, view)
        except CodingFaultError as fault:
            where = tensors[fault.part].name if fault.part else name
            raise IntegrityError(
                str(self.path),
                [Problem("coding", where, f"{fault.message} ({coding.id})")],
                hint="A faulty writer made this file, or it was changed.",
            ) from fault
        digest = hashlib.sha256(view).hexdigest()
        self._compare(coded, digest, not (entry.dtype == "bool" and any(byte > 1 for byte in view)))

    def as_it_is(self, held: Held) -> TensorInfo | None:
        """The tensor of the file that has the bytes which read_into() gives; None if they are decoded."""
        found = self.parts(held).get(VALUE) if isinstance(held, str) else held
        return found if isinstance(found, TensorInfo) else None

    def form(self, held: Held) -> tuple[str, tuple[int, ...]]:
        """The dtype and the shape of what read_into() gives."""
        if not isinstance(held, str):
            return held.dtype, held.shape
        entry = self.descriptor.parameters[held]
        if not isinstance(entry, Stored):
            raise KeyError(f"{held} is not in the file")
        return entry.dtype, entry.shape

    def held_bytes(self, name: str) -> int:
        """Bytes of what lies in the file for a parameter."""
        return sum(info.nbytes for info in self.parts(name).values())

    def check(self, info: TensorInfo) -> None:
        """Check a tensor's SHA-256 piece by piece, keeping nothing of it. Raises IntegrityError."""
        for _ in self.pieces(info):
            pass

    def check_tensors(self) -> None:
        """As check(), of every tensor of the file."""
        for info in self.tensors.values():
            self.check(info)

    def read(self, held: Held) -> "NDArray[Any]":
        """A checked NumPy array; ``bfloat16`` as ``uint16`` bits. Shape as form() says."""
        import numpy as np

        dtype, shape = self.form(held)
        array: NDArray[Any] = np.empty(shape, "uint16" if dtype == "bfloat16" else dtype)
        self.read_into(held, array.reshape(-1).data)
        return array

    def read_bytes(self, held: Held) -> bytearray:
        """Checked bytes."""
        dtype, shape = self.form(held)
        data = bytearray(numel(shape) * dtypes.ITEMSIZE[dtype])
        self.read_into(held, data)
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

    def fingerprint_place(self, name: str) -> str:
        """What errors call the fingerprint of a generated parameter."""
        return name if self.scaffold == DEFAULT_SCAFFOLD else place_of(self.scaffold, name)

    def source(self, name: str) -> rng.Source:
        """The stream of a generated parameter. With ``torch-cpu`` there are none."""
        entry = self.descriptor.parameters[name]
        if not isinstance(entry, Seeded | Adapted):
            raise KeyError(f"{name} is not generated")
        table = self.tables.get(entry.distribution) or rng.builtin(entry.distribution)
        return rng.Source(self.descriptor.seed, name, table, entry.scale, entry.dtype)

    def declared_bytes(self, dtype: str | None = None) -> int:
        """Bytes of the rebuilt plain model, ties counted once; ``dtype`` replaces that of floating tensors."""
        names = (name for name, entry in self.descriptor.parameters.items() if not isinstance(entry, Tied))
        return sum(self.declared_bytes_of(name, dtype) for name in names)

    def declared_bytes_of(self, name: str, dtype: str | None = None) -> int:
        """Bytes of one parameter of the rebuilt plain model, which is not tied."""
        entry = self.descriptor.parameters[name]
        assert not isinstance(entry, Tied)
        return numel(entry.shape) * dtypes.ITEMSIZE[dtype if dtype and "float" in entry.dtype else entry.dtype]

    def _compare(self, held: TensorInfo | CodedTensor, digest: str, plain: bool) -> None:
        """``plain``: whether the bytes of a bool tensor are all 0 or 1."""
        if isinstance(held, TensorInfo):
            name, recorded, what = held.name, self.sha256[held.name], "its SHA-256 is"
        else:
            name, recorded, what = held.name, held.entry.sha256, "decodes to the SHA-256"
        if digest != recorded:
            problem = Problem("sha256", name, f"{what} {digest}, recorded {recorded}")
            raise IntegrityError(str(self.path), [problem], hint="Get the file again from where it came.")
        if not plain:
            raise IntegrityError(str(self.path), [Problem("bool", name, "holds bytes other than 0 and 1")])

    def _read_table(self, table_id: str) -> "rng.Table":
        name = table_tensor(table_id)
        values = self.read(self.tensors[name])
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
    where = Path(path)
    file = container.open_binary(where)
    try:
        return PackFile(where, file, DEFAULT_SCAFFOLD if scaffold is None else scaffold)
    except OSError as fault:
        file.close()
        problem = Problem("length", "file", fault.strerror or str(fault))
        raise ContainerError(str(where), [problem]) from fault
    except BaseException:
        file.close()
        raise
