"""inspect(): describe a pack from its header and betas, without torch."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from lottapack import arch
from lottapack.display import Displayed, Facts
from lottapack.format.coded import CodedTensor, is_drawn
from lottapack.format.codings import coding_of
from lottapack.format.container import TensorInfo
from lottapack.format.descriptor import (
    FACTORS,
    LAMBDAS,
    SCALES,
    Adapted,
    Constant,
    Seeded,
    Stored,
    Tied,
    role_of,
)
from lottapack.format.files import files_of
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.results import Result
from lottapack.format.shapes import numel
from lottapack.limits import size_text
from lottapack.registry.local import local

__all__ = ["Summary", "inspect"]


@dataclass(frozen=True, slots=True)
class ParameterSummary:
    """One parameter. Fields that its role does not have are None; ``beta`` is 1.0 if it is fixed.

    ``coding``: of an adapter, the codings of its factors, such as ``trellis8`` or ``lora_A seeded, lora_B trellis8``.
    ``vectors``: what an adapter learns beside factors, beta and magnitude, as ``lambda_b`` and ``lambda_d`` (VeRA).
    """

    name: str
    role: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    distribution: str | None = None
    scale: float | None = None
    rank: int | None = None
    alpha: float | None = None
    scaling: str | None = None
    beta: float | None = None
    beta_learned: bool | None = None
    magnitude: bool | None = None
    vectors: tuple[str, ...] | None = None
    group: str | None = None
    coding: str | None = None
    trained: bool | None = None
    to: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Summary(Displayed):
    """The result of inspect(). Sizes are in bytes; ``numel`` counts the plain model's elements, tied ones once.

    ``allow``: packages that a loader must allow by name. ``scaffolds``: the seeds of additional scaffolds by name.
    ``files``: the sizes of the files beside the model. ``torch`` and ``capability``: the versions that drew the weights
    if ``rng`` is ``torch-cpu``, else None. ``results``: the scores that the pack carries.
    """

    path: Path
    file_size: int
    format_version: str
    family: str
    architecture: str
    config: dict[str, Any]
    rng: str
    seed: str
    tables: dict[str, int]
    numel: int
    trained: int
    parameters: tuple[ParameterSummary, ...]
    provenance: dict[str, str]
    torch: str | None = None
    capability: str | None = None
    scaffolds: dict[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    files: dict[str, int] = field(default_factory=dict)
    results: tuple[Result, ...] = ()

    def betas(self) -> dict[str, float]:
        """Return beta, the learned factor of the backbone, of each adapted layer, in the order of the model.

        A layer whose beta is near zero does not use its backbone. Betas that are fixed at 1 are left out.
        """
        return {
            one.name.rpartition(".")[0] or one.name: one.beta
            for one in self.parameters
            if one.beta is not None and one.beta_learned
        }

    def _facts(self) -> Facts:
        line = f"{self.architecture}, {self.numel:,} parameters, {self.trained:,} trained, {size_text(self.file_size)}"
        more: dict[str, object] = {
            "family": self.family,
            "generator": f"{self.rng}, seed {int(self.seed, 16)}",
            "tables": ", ".join(self.tables),
            "scaffolds": ", ".join(self.scaffolds),
            "files": ", ".join(self.files),
            "results": "; ".join(f"{one.metric} {one.score:g} on {one.dataset}" for one in self.results),
            "needs allow": ", ".join(self.allow),
            "written by": ", ".join(f"{tool} {version}" for tool, version in self.provenance.items()),
        }
        rows = [
            (
                one.name,
                one.role,
                "" if one.shape is None else " x ".join(map(str, one.shape)) or "()",
                one.dtype,
                one.distribution,
                one.rank,
                one.beta,
            )
            for one in self.parameters
        ]
        columns = ("name", "role", "shape", "dtype", "distribution", "rank", "beta")
        return Facts(self.path, line, {label: value for label, value in more.items() if value}, columns, rows)


def inspect(path: str | PathLike[str]) -> Summary:
    """Describe a pack without building its model or importing torch.

    Args:
        path: the pack, or a reference as in load().

    Returns:
        Architecture, seed and tables of the pack, and each of its parameters.

    Raises:
        FormatError: the file is not a valid pack.
        IntegrityError: a beta is damaged.
        InvalidReferenceError, RegistryError: as in load(), for a reference.

    Source:
        spec/v1/descriptor.md.

    Examples:
        >>> summary = lottapack.inspect("model.lotta.safetensors")
        >>> summary.architecture, summary.numel, summary.trained
        ('Sequential', 676, ...)
    """
    with open_pack(local(path)) as pack:
        descriptor = pack.descriptor
        owned = [entry for entry in descriptor.parameters.values() if not isinstance(entry, Tied)]
        return Summary(
            path=pack.path,
            file_size=pack.file_size,
            format_version=descriptor.lottapack,
            family=descriptor.architecture.family,
            architecture=descriptor.architecture.class_,
            config=descriptor.architecture.config,
            rng=descriptor.rng.id,
            seed=descriptor.rng.seed,
            tables={name: table.bits for name, table in descriptor.rng.tables.items()},
            numel=sum(numel(entry.shape) for entry in owned),
            trained=trained_elements(pack),
            parameters=tuple(_parameter(pack, name) for name in descriptor.parameters),
            provenance=descriptor.provenance,
            torch=descriptor.rng.torch or None,
            capability=descriptor.rng.capability or None,
            scaffolds={name: scaffold.seed for name, scaffold in descriptor.scaffolds.items()},
            allow=arch.packages(descriptor.architecture),
            files={name: record.size for name, record in files_of(descriptor).items()},
            results=tuple(Result(**one) for one in descriptor.results or ()),
        )


def trained_elements(pack: PackFile) -> int:
    """Return the number of trained elements: adapters, and what was trained in full."""
    total = 0
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Stored) and entry.trained:
            total += numel(entry.shape)
        elif isinstance(entry, Adapted):
            parts = pack.adapter(name)
            frozen = FACTORS if LAMBDAS[0] in parts else ()
            total += sum(numel(parts[part].shape) for part in parts if part not in frozen and not is_drawn(parts[part]))
    return total


def _parameter(pack: PackFile, name: str) -> ParameterSummary:
    entry = pack.descriptor.parameters[name]
    role = role_of(entry)
    if isinstance(entry, Tied):
        return ParameterSummary(name, role, to=entry.to)
    if isinstance(entry, Constant):
        return ParameterSummary(name, role, entry.shape, entry.dtype)
    if isinstance(entry, Stored):
        coding = coding_of(entry)
        form = coding.id if coding else None
        return ParameterSummary(
            name, role, entry.shape, entry.dtype, group=entry.group, coding=form, trained=entry.trained
        )
    drawn = (entry.shape, entry.dtype, entry.distribution, entry.scale)
    if isinstance(entry, Seeded):
        return ParameterSummary(name, role, *drawn)
    parts = pack.adapter(name)
    learned = "beta" in parts
    beta = _beta(pack, parts["beta"]) if learned else 1.0
    return ParameterSummary(
        name,
        role,
        *drawn,
        entry.rank,
        entry.alpha,
        entry.scaling,
        beta,
        learned,
        "magnitude" in parts,
        tuple(part for part in (*LAMBDAS, *SCALES) if part in parts),
        coding=_codings(parts),
    )


def _codings(adapter: Mapping[str, TensorInfo | CodedTensor]) -> str | None:
    """Return the codings of an adapter's factors: one id if both have it, else each with its factor."""
    forms = {part: held.coding.id for part, held in adapter.items() if isinstance(held, CodedTensor)}
    factors = {part: form for part, form in forms.items() if part in FACTORS}
    if len(factors) == len(FACTORS) and len(set(factors.values())) == 1:
        return factors[FACTORS[0]]
    return ", ".join(f"{part} {form}" for part, form in factors.items()) or None


def _beta(pack: PackFile, info: TensorInfo | CodedTensor) -> float:
    data, dtype = bytes(pack.read_bytes(info)), info.dtype
    if dtype == "bfloat16":  # the high half of a float32
        data, dtype = b"\0\0" + data, "float32"
    beta: float = struct.unpack({"float32": "<f", "float16": "<e"}[dtype], data)[0]
    return beta
