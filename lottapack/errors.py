"""The exceptions of lottapack: one tree, so that ``except LottapackError`` is enough.

::

    LottapackError
    ├── FormatError             a file is not a valid pack; lists every problem
    │   ├── ContainerError      the safetensors container is broken (spec: refusals, section 1)
    │   ├── DescriptorError     the JSON descriptor breaks the format (section 2)
    │   └── AgreementError      tensors and descriptor contradict each other (section 3)
    ├── IntegrityError          bytes or rebuilt weights differ from what the pack records (section 4)
    ├── SignatureError          a signature is missing, malformed, made with another key, or of another file
    ├── InvalidKeyError         a file cannot be used as a signing or verification key
    ├── LimitError              a pack declares more than the caller allows (section 5)
    ├── PlacementError          a mesh or a placement does not fit a tensor, the processes or the device
    ├── UnsupportedError        this installation lacks an id, dtype, device or library
    ├── DeviceError             a device computes wrong bits
    ├── ArchitectureError       a model cannot be described, or a description cannot be built
    ├── NotAllowedError         a pack needs an import that the caller did not allow
    ├── ScaffoldError           wrong arguments of scaffold(), or an unknown scaffold
    ├── CheckpointError         a checkpoint cannot be packed
    ├── OutputError             an output path cannot be written
    ├── InvalidReferenceError   a text does not name a path, repository or image
    └── RegistryError           a registry refused or failed
        ├── NetworkError        the registry is unreachable, too slow, or fails by itself
        ├── AccessError         a token is missing, wrong, or lacks the right
        ├── NotFoundError       the repository, revision, tag or file does not exist
        └── ConflictError       someone else's commit came first

Every message says what failed, where, and what to do next.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a pack.

    ``kind`` is a word of ``spec/v1/refusals.md``, ``where`` the location in the file
    (``parameters["0.weight"].scale``), ``message`` the problem in words.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class UnusedOptionWarning(UserWarning):
    """An argument has no effect: the model has nothing that it applies to, or the pack does not become smaller."""


class BackboneChangedWarning(UserWarning):
    """A frozen weight differs from what the seed generates: the pack stores it, but a checkpoint does not hold it."""


class LeftOutWarning(UserWarning):
    """A pack, or the folder of an export, leaves out what decides outputs or may do so.

    A tensor where the constructor sets None (a cache, or a value that was set since), what a module around the
    scaffolded model computes, or, of a PEFT model that is saved, other active adapters, adapters that are off, and
    scales that no configuration holds. Of a folder: a second tokenizer, or the modules of sentence-transformers. Of an
    export for transformers: dtypes of tensors that a constructor computes.
    """


class LottapackError(Exception):
    """The base of all lottapack errors. ``hint``: what to do next, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class _ProblemsError(LottapackError):
    """An error that lists all problems, not only the first."""

    def __init__(self, source: str, problems: Sequence[Problem], *, hint: str = "") -> None:
        self.source = source
        self.problems = tuple(problems)
        shown = "".join(f"\n  {problem}" for problem in self.problems[:10])
        more = len(self.problems) - 10
        if more > 0:
            shown += f"\n  ... and {more} more"
        super().__init__(f"{source} {self.summary}{shown}", hint=hint)

    summary = "is not valid:"


class FormatError(_ProblemsError):
    """A file is not a valid pack."""


class ContainerError(FormatError):
    """The safetensors container is broken or not canonical (spec: container)."""

    summary = "is not a readable pack:"


class DescriptorError(FormatError):
    """The descriptor breaks the format (spec: descriptor)."""

    summary = "has a descriptor that breaks the format:"


class AgreementError(FormatError):
    """Tensors and descriptor contradict each other (spec: refusals, section 3)."""

    summary = "holds tensors that contradict its descriptor:"


class IntegrityError(_ProblemsError):
    """Bytes in the file, or rebuilt weights, differ from what the pack records."""

    summary = "is damaged or was changed:"


class SignatureError(LottapackError):
    """The signature is missing, malformed, made with another key, or belongs to another file."""


class InvalidKeyError(LottapackError):
    """A file cannot be used as a signing or verification key."""


class LimitError(LottapackError):
    """A pack declares a model larger than the caller allows."""


class UnsupportedError(LottapackError):
    """The installation lacks an id, a dtype, a device or a library."""


class PlacementError(LottapackError):
    """A mesh or a placement does not fit the tensor's shape, the processes or the device."""


class DeviceError(LottapackError):
    """A device failed the known-answer test, so nothing is generated on it."""


class ArchitectureError(LottapackError):
    """A model cannot be described as data, or a description cannot be built."""


class NotAllowedError(LottapackError):
    """A pack needs to import a module that the caller did not allow by name."""


class ScaffoldError(LottapackError):
    """``scaffold()`` got an invalid argument, or one that does not fit a layer; the message names it.

    Also raised when a model or a pack does not have the named scaffold; the hint lists those that it has.
    """


class CheckpointError(LottapackError):
    """A checkpoint cannot be packed: its recipe is missing, or its tensors do not match the recipe."""


class OutputError(LottapackError):
    """An output path cannot be written."""


class InvalidReferenceError(LottapackError):
    """A text does not name a path, a repository of the Hub or an OCI image."""


class RegistryError(LottapackError):
    """A registry refused a request or failed."""


class NetworkError(RegistryError):
    """A registry cannot be reached, the connection broke, or the registry itself failed."""


class AccessError(RegistryError):
    """A token is missing or wrong, or lacks the right to do this."""


class NotFoundError(RegistryError):
    """The repository, revision, tag or file does not exist in the registry or, offline, in the cache."""


class ConflictError(RegistryError):
    """Someone else's commit came first, so nothing was changed."""
