"""verify(): every check of a pack, each with its outcome."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from lottapack import rng
from lottapack.errors import ArchitectureError, IntegrityError, UnsupportedError
from lottapack.format.descriptor import Adapted, Seeded
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.progress import Progress


@dataclass(frozen=True, slots=True)
class Check:
    """One outcome. ``what``: ``format``, ``sha256``, ``bool``, ``fingerprint`` or ``architecture``.

    ``where``: which tensor.
    """

    what: str
    where: str
    status: Literal["ok", "failed", "skipped"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """All outcomes for one file. ``sha256``: of the whole file."""

    path: Path
    sha256: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "failed" for check in self.checks)


def verify(
    path: str | PathLike[str],
    *,
    device: str = "cpu",
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check everything about a pack: header, descriptor, each hash, each fingerprint, and that the model can be built.

    Weights are generated piece by piece on ``device``, never all at once. ``max_bytes`` is as in load(): it bounds the
    work that a small file can ask for. ``progress``: in tensors and parameters.

    Raises:
        FormatError: the file is not a pack; its ``problems`` lists everything found. LimitError. UnsupportedError,
            DeviceError: about the device.
    """
    with open_pack(path) as pack:
        check_memory(str(path), pack.declared_bytes(), max_bytes)
        checks = [Check("format", "header and descriptor", "ok", f"format {pack.descriptor.lottapack}")]
        total = len(pack.tensors) + len(pack.descriptor.parameters)
        for check in _contents(pack, device):
            checks.append(check)
            if progress:
                progress(len(checks), total)
        checks.append(_architecture(pack))
        return Verification(Path(path), pack.file_sha256(), tuple(checks))


def _contents(pack: PackFile, device: str) -> Iterator[Check]:
    for name in pack.tensors:
        try:
            pack.check(name)
        except IntegrityError as fault:
            yield Check(fault.problems[0].kind, name, "failed", fault.problems[0].message)
        else:
            yield Check("sha256", name, "ok")
    for name, found, recorded in _fingerprints(pack, device):
        if found == recorded:
            yield Check("fingerprint", name, "ok")
        else:
            yield Check("fingerprint", name, "failed", f"rebuilt {found}, recorded {recorded}")


def _fingerprints(pack: PackFile, device: str) -> Iterator[tuple[str, str, str]]:
    """Of each generated parameter its name, the fingerprint that it has here, and the recorded one."""
    generated = {n: e for n, e in pack.descriptor.parameters.items() if isinstance(e, Seeded | Adapted)}
    if pack.descriptor.rng.id != rng.TORCH_CPU:
        jobs = [(pack.source(name), numel(entry.shape)) for name, entry in generated.items()]
        for (name, entry), fingerprint in zip(generated.items(), _computed(jobs, device), strict=True):
            yield name, rng.fingerprint_hex(fingerprint), entry.fingerprint
    elif generated:
        from lottapack.constructed import constructed_fingerprints

        try:
            drawn = constructed_fingerprints(pack)
        except (UnsupportedError, ArchitectureError) as fault:
            drawn = {name: (f"none ({fault.message})", entry.fingerprint) for name, entry in generated.items()}
        for name, (found, recorded) in drawn.items():
            yield name, found, recorded


def _computed(jobs: list[tuple[rng.Source, int]], device: str) -> Iterable[int]:
    if device == "cpu":
        return (rng.fingerprint_of(source, count) for source, count in jobs)  # without torch
    from lottapack.device import resolve

    return rng.fingerprints_on(resolve(device), jobs)


def _architecture(pack: PackFile) -> Check:
    from lottapack.rebuild import skeleton

    where = pack.descriptor.architecture.class_
    try:
        skeleton(pack.descriptor)
    except UnsupportedError as fault:
        return Check("architecture", where, "skipped", str(fault))
    except ArchitectureError as fault:
        return Check("architecture", where, "failed", str(fault))
    return Check("architecture", where, "ok", f"{len(pack.descriptor.parameters)} parameters as declared")
