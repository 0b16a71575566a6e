"""The records of the descriptor and their canonical bytes (spec: descriptor)."""

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

import msgspec

from lottapack.errors import ScaffoldError
from lottapack.format import canonical
from lottapack.format.names import ADAPTER_PARTS
from lottapack.format.ties import owners
from lottapack.strict_json.text import JsonText

FORMAT_VERSION = "1.0"
"""The newest format version that this reader knows."""

METADATA_KEY = "lottapack"
DIGEST_KEY = "lottapack.sha256"
MAX_PARAMETERS = 100_000
MAX_SCAFFOLDS = 64
MAX_PROVENANCE = 64
DEFAULT_SCAFFOLD = "default"
GROUPS = ("embedding", "head", "norm", "bias", "buffer", "other")
SCALINGS = ("lora", "rslora")
FACTORS = ("lora_A", "lora_B")
"""The tensors of an adapter whose product is added, and which may come from the seed."""
LAMBDAS = ("lambda_b", "lambda_d")
"""The vectors that scale the factors of an adapter, which are then frozen (VeRA)."""
SCALES = ("scale_in", "scale_out")
"""The vectors that scale the inputs and the outputs of a generated weight."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The base of the format's objects: keyword-only, frozen, and without unknown fields.

    The records are not tracked by the garbage collector, because JSON does not have cycles and a pack may have 100,000
    of them.
    """


class Architecture:
    """The ``family``, ``class`` and ``config`` (JSON) from which an empty module can be built.

    A configuration that was read keeps its text. Its values, which can take thirty times as much memory, are built each
    time they are requested.
    """

    __slots__ = ("_config", "class_", "family")

    def __init__(self, *, family: str, class_: str, config: dict[str, Any] | JsonText) -> None:
        self.family = family
        self.class_ = class_
        self._config = config

    @property
    def config(self) -> dict[str, Any]:
        """The configuration."""
        config: dict[str, Any] = self._config.value() if isinstance(self._config, JsonText) else self._config
        return config

    def fields(self) -> dict[str, Any]:
        """Return the architecture as JSON."""
        return {"family": self.family, "class": self.class_, "config": self.config}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.fields() == other.fields()

    def __repr__(self) -> str:
        return f"Architecture(family={self.family!r}, class_={self.class_!r}, config={self.config!r})"


class ArchitectureRecord(Record, frozen=True):
    """The architecture as a record of the format."""

    family: str
    class_: str = msgspec.field(name="class")
    config: dict[str, Any]


def architecture_fields(value: Any) -> Any:
    """Return what msgspec should write for an architecture."""
    if isinstance(value, Architecture):
        return value.fields()
    raise NotImplementedError(type(value).__name__)


class TableRecord(Record, frozen=True):
    """A table in the pack: 2**bits binary32 values in the tensor ``lottapack.tables.<id>``."""

    bits: int
    sha256: str


class ScaffoldRecord(Record, frozen=True):
    """An additional scaffold: its seed (16 hex digits) and its fingerprint of each generated parameter."""

    seed: str
    fingerprints: dict[str, str]


class Rng(Record, frozen=True):
    """The generator's id, the seed (16 hex digits) and the pack's own tables by id.

    ``scaffolds``: the additional scaffolds by name; absent if it has none. ``torch`` and ``capability``: the torch
    version and the processor's vector instructions, for ``torch-cpu`` only.
    """

    id: str
    seed: str
    tables: dict[str, TableRecord]
    scaffolds: dict[str, ScaffoldRecord] | msgspec.UnsetType = msgspec.UNSET
    torch: str | msgspec.UnsetType = msgspec.UNSET
    capability: str | msgspec.UnsetType = msgspec.UNSET


class Coding(Record, frozen=True):
    """A tensor's coding: its id, and the SHA-256 of its coded tensors (spec: codings).

    ``distribution`` and ``scale`` belong to a tensor that comes from the seed, ``of`` to one that is part of the same
    tensor of another parameter's adapter; both lie in no file.
    """

    id: str
    codes: str | msgspec.UnsetType = msgspec.UNSET
    scales: str | msgspec.UnsetType = msgspec.UNSET
    distribution: str | msgspec.UnsetType = msgspec.UNSET
    scale: float | msgspec.UnsetType = msgspec.UNSET
    of: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def given(self) -> set[str]:
        """The fields beside the id that it has."""
        fields = ("codes", "scales", "distribution", "scale", "of")
        return {field for field in fields if getattr(self, field) is not msgspec.UNSET}

    def parts(self) -> dict[str, str]:
        """Return the SHA-256 of each coded tensor by its last name."""
        held = {"codes": self.codes, "scales": self.scales}
        return {part: sha256 for part, sha256 in held.items() if sha256 is not msgspec.UNSET}


class TensorRecord(Record, frozen=True):
    """One tensor of an adapter. ``sha256``: that of its decoded bytes."""

    dtype: str
    sha256: str
    coding: Coding | msgspec.UnsetType = msgspec.UNSET


class Adapter(Record, frozen=True):
    """The tensors of an adapter.

    ``beta`` is absent if it is fixed at 1, the factors if the rank is 0, and others if the adapter does not use them.
    """

    lora_A: TensorRecord | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    lora_B: TensorRecord | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    beta: TensorRecord | msgspec.UnsetType = msgspec.UNSET
    magnitude: TensorRecord | msgspec.UnsetType = msgspec.UNSET
    lambda_b: TensorRecord | msgspec.UnsetType = msgspec.UNSET
    lambda_d: TensorRecord | msgspec.UnsetType = msgspec.UNSET
    scale_in: TensorRecord | msgspec.UnsetType = msgspec.UNSET
    scale_out: TensorRecord | msgspec.UnsetType = msgspec.UNSET

    def tensors(self) -> dict[str, TensorRecord]:
        """Return the adapter's tensors by their last names, in the order of ADAPTER_PARTS."""
        every = zip(ADAPTER_PARTS, msgspec.structs.astuple(self), strict=True)
        return {part: tensor for part, tensor in every if tensor is not msgspec.UNSET}

    def coded(self) -> dict[str, Coding]:
        """Return the codings of those tensors that have one."""
        return {part: held.coding for part, held in self.tensors().items() if held.coding is not msgspec.UNSET}


class Generated(Record, frozen=True):
    """What a seed generates: the base of a generated parameter, in a descriptor and in a recipe."""

    shape: tuple[int, ...]
    dtype: str
    distribution: str
    scale: float

    @property
    def drawn(self) -> dict[str, Any]:
        """These four fields by name, for another record of the same tensor."""
        return {name: getattr(self, name) for name in Generated.__struct_fields__}


class Seeded(Generated, frozen=True, tag_field="role", tag="seeded"):
    """A generated parameter. ``scale``: a binary32 number; ``fingerprint``: 16 hex digits."""

    fingerprint: str


class Adapted(Generated, frozen=True, tag_field="role", tag="adapted"):
    """A generated parameter with an adapter. ``rank``: 0 without factors."""

    fingerprint: str
    fan_in_fan_out: bool
    rank: int
    alpha: float
    scaling: str
    adapter: Adapter
    batch_dims: int | msgspec.UnsetType = msgspec.UNSET  # left out where the weight is one matrix
    shared_factor: str | msgspec.UnsetType = msgspec.UNSET  # left out where each matrix has its own factors


class Stored(Record, frozen=True, tag_field="role", tag="stored"):
    """A parameter or buffer whose tensor is in the file, plain or coded.

    ``sha256``: that of the parameter's decoded bytes.
    """

    shape: tuple[int, ...]
    dtype: str
    group: str
    trained: bool
    sha256: str
    coding: Coding | msgspec.UnsetType = msgspec.UNSET


class FileRecord(Record, frozen=True):
    """A file beside the model: its size in bytes and its SHA-256 (spec: files)."""

    size: int
    sha256: str
    coding: Coding | msgspec.UnsetType = msgspec.UNSET


class Constant(Record, frozen=True, tag_field="role", tag="constant"):
    """Every element has the bits ``value`` (big-endian hex)."""

    shape: tuple[int, ...]
    dtype: str
    value: str


class Tied(Record, frozen=True, tag_field="role", tag="tied"):
    """Shares the storage of the entry ``to``."""

    to: str


Parameter = Seeded | Adapted | Stored | Constant | Tied
Role = Literal["seeded", "adapted", "stored", "constant", "tied"]
RECORDS: dict[str, type[Seeded] | type[Adapted] | type[Stored] | type[Constant] | type[Tied]] = {
    "seeded": Seeded,
    "adapted": Adapted,
    "stored": Stored,
    "constant": Constant,
    "tied": Tied,
}


def role_of(parameter: Parameter) -> Role:
    """Return the role's name."""
    role: Role = parameter.__struct_config__.tag  # type: ignore[assignment]
    return role


class Descriptor(Record, frozen=True, dict=True, gc=True, rename={"results": "x-results"}):
    """The whole descriptor of a pack."""

    lottapack: str
    architecture: Architecture
    rng: Rng
    parameters: dict[str, Parameter]
    provenance: dict[str, str]
    computed: dict[str, str] | msgspec.UnsetType = msgspec.UNSET  # dtypes by name (spec: section 7)
    files: dict[str, FileRecord] | msgspec.UnsetType = msgspec.UNSET
    results: tuple[dict[str, Any], ...] | msgspec.UnsetType = msgspec.UNSET  # of format.results.Result

    @property
    def seed(self) -> int:
        """The seed as an integer from 0 to 2**64 - 1."""
        return int(self.rng.seed, 16)

    @property
    def scaffolds(self) -> dict[str, ScaffoldRecord]:
        """The additional scaffolds by name."""
        return self.rng.scaffolds or {}

    def on_scaffold(self, name: str) -> "Descriptor":
        """Return the descriptor of the same model on one scaffold. Raises ScaffoldError for an unknown name."""
        if name == DEFAULT_SCAFFOLD:
            return self
        record = self.scaffolds.get(name) if isinstance(name, str) else None
        if record is None:
            raise unknown_scaffold(name, self.scaffolds)
        parameters = {
            key: msgspec.structs.replace(entry, fingerprint=record.fingerprints[key])
            if isinstance(entry, Seeded | Adapted)
            else entry
            for key, entry in self.parameters.items()
        }
        generator = msgspec.structs.replace(self.rng, seed=record.seed, scaffolds=msgspec.UNSET)
        return msgspec.structs.replace(self, rng=generator, parameters=parameters)

    def to_bytes(self) -> bytes:
        """Return the descriptor as canonical JSON in UTF-8."""
        return canonical.dumps(msgspec.to_builtins(self, enc_hook=architecture_fields))

    def resolve(self, name: str) -> str:
        """Follow ``tied`` entries to the entry that owns the storage."""
        return self._owners.get(name, name)

    @cached_property
    def _owners(self) -> dict[str, str]:
        return owners({name: entry.to for name, entry in self.parameters.items() if isinstance(entry, Tied)})


def unknown_scaffold(name: str, held: Iterable[str]) -> ScaffoldError:
    """Return the error for an unknown scaffold. ``held``: the names of the additional ones."""
    names = ", ".join([DEFAULT_SCAFFOLD, *sorted(held)])
    return ScaffoldError(f"unknown scaffold {name!r}", hint=f"Choose one of {names}.")


def seed_text(seed: int) -> str:
    """Return a seed as 16 hexadecimal digits."""
    return f"{seed:016x}"


SCAFFOLD_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TABLE_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
