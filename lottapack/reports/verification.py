"""verify(): run every check of a pack, and report each outcome."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

from lottapack import rng
from lottapack.arch.trust import allowing
from lottapack.display import Displayed, Facts
from lottapack.errors import ArchitectureError, IntegrityError, NotAllowedError, SignatureError, UnsupportedError
from lottapack.extras import without_torch
from lottapack.format.coded import CodedTensor, coded_entries
from lottapack.format.descriptor import Adapted, Descriptor, FileRecord, Seeded, Stored
from lottapack.format.expected import expected_file, expected_tensors
from lottapack.format.files import content, files_of
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.scaffolds import place_of
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.progress import Progress, require_functions
from lottapack.registry.local import local
from lottapack.signing import check_signature, signature_path
from lottapack.weights.loaded_size import peak_bytes

_log = logging.getLogger(__name__)

__all__ = ["Check", "Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    ``what``: ``format``, ``signature``, ``sha256``, ``bool``, ``coding``, ``fingerprint`` or ``architecture``.

    ``where``: the tensor; for an additional scaffold, the location of its fingerprint.
    """

    what: str
    where: str
    status: Literal["ok", "failed", "skipped"]
    detail: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Verification(Displayed):
    """All outcomes for one file. ``sha256``: that of the whole file."""

    path: Path
    sha256: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    def _facts(self) -> Facts:
        counts = {status: sum(check.status == status for check in self.checks) for status in ("failed", "skipped")}
        wrong = [check for check in self.checks if check.status != "ok"]
        said = "".join(f", {count} {status}" for status, count in counts.items() if count)
        first = next((f": {check.what} {check.where}" for check in wrong if check.status == "failed"), "")
        line = f"{'ok' if self.ok else 'FAILED'}, {len(self.checks)} checks{said}{first}"
        kinds = dict.fromkeys(check.what for check in self.checks)
        more = {kind: sum(check.what == kind for check in self.checks) for kind in kinds}
        rows = [(check.status, check.what, check.where, check.detail) for check in wrong]
        return Facts(
            self.path, line, {"SHA-256 of the file": self.sha256, **more}, ("status", "check", "where", "detail"), rows
        )


def verify(
    path: str | PathLike[str],
    *,
    key: str | PathLike[str] | None = None,
    device: str = "cpu",
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
    build: bool = True,
    progress: Progress | None = None,
) -> Verification:
    """Check everything about a pack: header, descriptor, each hash and fingerprint, and that its model can be built.

    Weights are generated piece by piece, never all at once, in every scaffold.

    Args:
        path: the pack, or a reference as in load().
        key: a public key in PEM; the signature beside the pack must be by its private key.
        device: where weights are generated for their fingerprints.
        max_bytes: as in load(): it bounds the work that a small file can ask for.
        allow: as in load(); where it does not name what the architecture needs, all else is checked and the
            architecture is skipped.
        build: whether to build the model, without weights. That needs torch, and takes most of the time for a small
            pack; without torch the architecture is skipped.
        progress: called with tensors and parameters checked, and their number.

    Returns:
        The outcome of each check; ``ok`` says whether all passed.

    Raises:
        FormatError: the file is not a pack; its ``problems`` lists everything found.
        LimitError: the pack declares more than ``max_bytes``.
        InvalidKeyError: ``key`` is not a public key.
        UnsupportedError: the device, or the signing library, is missing.
        DeviceError: the device computes wrong bits.
        InvalidReferenceError, RegistryError: as in load(), for a reference.

    Source:
        spec/v1/refusals.md and spec/v1/fingerprint.md.

    Examples:
        >>> lottapack.verify("model.lotta.safetensors").ok
        True
    """
    require_functions(progress=progress)
    with allowing(allow), open_pack(local(path)) as pack:
        check_memory(str(path), peak_bytes(pack), max_bytes)
        checks = [Check("format", "header and descriptor", "ok", f"format {pack.descriptor.lottapack}")]
        if key is not None:
            checks.append(_signature(pack, key))
        unchecked = dict.fromkeys(_listed(pack.whole))
        total = len(checks) + len(unchecked) + bool(build)
        for item, check in _contents(pack, device):
            unchecked.pop(item, None)
            checks.append(check)
            if progress:
                progress(len(checks), total)
        checks += [
            Check(what, where, "failed", "the descriptor lists it, but no check covered it")
            for what, where in unchecked
        ]
        if build:
            checks.append(_architecture(pack, max_bytes))
            if progress:
                progress(len(checks), total)
        return Verification(pack.path, pack.file_sha256(), tuple(checks))


def _signature(pack: PackFile, key: str | PathLike[str]) -> Check:
    where = signature_path(pack.path).name
    try:
        check_signature(pack, key)
    except SignatureError as fault:
        return Check("signature", where, "failed", fault.message)
    return Check("signature", where, "ok", f"by the key of {key}")


Item = tuple[str, str]
"""One item to check: ``sha256`` of a tensor, ``coding`` of a parameter, or ``fingerprint`` at its location."""


def _listed(descriptor: Descriptor) -> Iterator[Item]:
    """Yield every item for which the descriptor records a hash."""
    for expected in expected_tensors(descriptor):
        yield "sha256", expected.name
    yield from (("coding", expected_file(*item).part) for item in _coded_files(descriptor))
    for name, entry in descriptor.parameters.items():
        yield from (("coding", coded) for coded, _ in coded_entries(name, entry))
        if isinstance(entry, Seeded | Adapted):
            yield "fingerprint", name
            for scaffold in descriptor.scaffolds:
                yield "fingerprint", place_of(scaffold, name)


def _coded_files(descriptor: Descriptor) -> Iterator[tuple[str, FileRecord]]:
    return ((name, record) for name, record in files_of(descriptor).items() if record.coding)


def _contents(pack: PackFile, device: str) -> Iterator[tuple[Item, Check]]:
    """Yield each checked item and its outcome."""
    failed = set()
    coded: dict[str, tuple[list[str], Callable[[], object]]] = {
        coded.name: ([info.name for info in coded.infos], partial(pack.read_bytes, coded))
        for name, entry in pack.descriptor.parameters.items()
        for coded in (pack.coded(name) if isinstance(entry, Stored) else None, *pack.adapter(name).values())
        if isinstance(coded, CodedTensor)
    }
    for file, record in _coded_files(pack.descriptor):
        expected = expected_file(file, record)
        coded[expected.part] = [expected.name], partial(content, pack, file)
    for name, info in pack.tensors.items():
        try:
            pack.check(info)
        except IntegrityError as fault:
            failed.add(name)
            yield ("sha256", name), Check(fault.problems[0].kind, name, "failed", fault.problems[0].message)
        else:
            yield ("sha256", name), Check("sha256", name, "ok")
    for name, (tensors, decode) in coded.items():
        damaged = [tensor for tensor in tensors if tensor in failed]
        if damaged:
            skipped = Check("coding", name, "skipped", f"{damaged[0]} is damaged, so it cannot be decoded")
            yield ("coding", name), skipped
            continue
        try:
            decode()
        except IntegrityError as fault:
            problem = fault.problems[0]
            yield ("coding", name), Check(problem.kind, problem.where, "failed", problem.message)
        else:
            yield ("coding", name), Check("coding", name, "ok")
    for name, computed, recorded in _fingerprints(pack, device):
        right = computed == recorded
        detail = "" if right else f"was rebuilt with {computed}, recorded is {recorded}"
        yield ("fingerprint", name), Check("fingerprint", name, "ok" if right else "failed", detail)


def _fingerprints(pack: PackFile, device: str) -> Iterator[tuple[str, str, str]]:
    """Yield each generated parameter on every scaffold with its computed and its recorded fingerprint."""
    generated = {n: e for n, e in pack.descriptor.parameters.items() if isinstance(e, Seeded | Adapted)}
    if pack.descriptor.rng.id != rng.TORCH_CPU:
        jobs: list[tuple[rng.Source, int]] = []
        wanted: list[tuple[str, str]] = []
        for name, entry in generated.items():
            source, count = pack.source(name), numel(entry.shape)
            jobs.append((source, count))
            wanted.append((name, entry.fingerprint))
            for scaffold, other in pack.descriptor.scaffolds.items():
                jobs.append((replace(source, seed=int(other.seed, 16)), count))
                wanted.append((place_of(scaffold, name), other.fingerprints[name]))
        for (where, recorded), fingerprint in zip(wanted, _computed(jobs, device), strict=True):
            yield where, rng.fingerprint_hex(fingerprint), recorded
    elif generated:
        from lottapack.weights.constructed import constructed_fingerprints

        try:
            drawn = constructed_fingerprints(pack)
        except (UnsupportedError, ArchitectureError, NotAllowedError) as fault:
            drawn = {name: (f"none ({fault.message})", entry.fingerprint) for name, entry in generated.items()}
        for name, (computed, recorded) in drawn.items():
            yield name, computed, recorded


def _computed(jobs: list[tuple[rng.Source, int]], device: str) -> Iterable[int]:
    if device == "cpu":
        return (rng.fingerprint_of(source, count) for source, count in jobs)  # without torch
    from lottapack.device import resolve

    return rng.fingerprints_on(resolve(device), jobs)


def _architecture(pack: PackFile, max_bytes: int | None) -> Check:
    if "torch" not in sys.modules:
        _log.info("importing torch")
    where = pack.descriptor.architecture.class_
    try:
        from lottapack.weights.rebuild import skeleton

        skeleton(pack.descriptor, max_bytes)
    except ModuleNotFoundError as fault:
        return Check("architecture", where, "skipped", str(without_torch(fault, "building the model")))
    except (UnsupportedError, NotAllowedError) as fault:
        return Check("architecture", where, "skipped", str(fault))
    except ArchitectureError as fault:
        return Check("architecture", where, "failed", str(fault))
    return Check("architecture", where, "ok", f"{len(pack.descriptor.parameters)} parameters as declared")
