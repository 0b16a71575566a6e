"""The exceptions of lottapack: one tree, so that ``except LottapackError`` is enough.

::

    LottapackError
    ├── FormatError            a file is not a valid pack; carries every Problem found
    │   ├── ContainerError     the safetensors file itself (spec: refusals, section 1)
    │   ├── DescriptorError    the JSON descriptor (section 2)
    │   └── AgreementError     file and descriptor contradict each other (section 3)
    ├── IntegrityError         bytes or rebuilt weights differ from what the pack records (section 4)
    ├── SignatureError         a signature is missing, broken, by another key, or of another file
    ├── InvalidKeyError            a file is no key that signatures are made or checked with
    ├── LimitError             a pack declares more than the caller allows (section 5)
    ├── PlacementError         a mesh or a placement does not fit a tensor, the processes or the device
    ├── UnsupportedError       an id, dtype, device or library that this installation lacks
    ├── DeviceError            a device computes wrong bits
    ├── ArchitectureError      a model cannot be described, or a description not built
    ├── NotAllowedError        a pack asks to import what the caller did not allow
    ├── ScaffoldError          wrong arguments to scaffold(), named by layer; a scaffold that is not there
    ├── CheckpointError        a checkpoint cannot be packed
    ├── OutputError            an output path cannot be written
    ├── InvalidReferenceError      text that names no path, repository or image
    └── RegistryError          a registry did not give, or did not take, what was asked
        ├── NetworkError       unreachable, cut off, too slow, or failing by itself
        ├── AccessError        a token is missing, wrong, or lacks the right
        ├── NotFoundError       no such repository, revision, tag or file
        └── ConflictError      someone else's commit came first

Every message says what is wrong, where, and what to do next.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a pack.

    ``kind`` is the word of ``spec/v1/refusals.md``, ``where`` the place in the file
    (``parameters["0.weight"].scale``), ``message`` the fault in words.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class UnusedOptionWarning(UserWarning):
    """An argument changes nothing: what it is for is not in the model, or does not become smaller by it."""


class BackboneChangedWarning(UserWarning):
    """A frozen weight is not what the seed generates, so the pack stores it."""


class LottapackError(Exception):
    """Base of every error that lottapack raises. ``hint``: what to do next, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class _ProblemsError(LottapackError):
    """An error that carries all problems found, not just the first."""

    def __init__(self, source: str, problems: Sequence[Problem], *, hint: str = "") -> None:
        self.source = source
        self.problems = tuple(problems)
        shown = "".join(f"\n  {problem}" for problem in self.problems[:10])
        more = len(self.problems) - 10
        if more > 0:
            shown += f"\n  ... and {more} more"
        super().__init__(f"{source}: {self.summary}{shown}", hint=hint)

    summary = "is not valid:"


class FormatError(_ProblemsError):
    """The file is not a valid pack."""


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
    """Bytes in the file, or rebuilt weights, are not those that the pack records."""

    summary = "is damaged or was changed:"


class SignatureError(LottapackError):
    """A pack has not the signature that is asked for: the message says which of the four it is."""


class InvalidKeyError(LottapackError):
    """A file is no key of the kind that signatures are made or checked with."""


class LimitError(LottapackError):
    """The pack declares a model larger than the caller allows."""


class UnsupportedError(LottapackError):
    """Something the installation does not have: an id, a dtype, a device, a library."""


class PlacementError(LottapackError):
    """A mesh or a placement does not fit: the tensor's shape, the processes or the device."""


class DeviceError(LottapackError):
    """A device failed the known answers, so nothing is generated on it."""


class ArchitectureError(LottapackError):
    """A model cannot be described as data, or a description cannot be built."""


class NotAllowedError(LottapackError):
    """A pack asks to import a module that the caller did not allow by name."""


class ScaffoldError(LottapackError):
    """``scaffold()`` was asked for something impossible: the message names the layer.

    Or a model or a pack has no scaffold of the name asked for: the hint lists its own.
    """


class CheckpointError(LottapackError):
    """A checkpoint cannot be packed: no recipe, tensors missing or left over."""


class OutputError(LottapackError):
    """An output path cannot be written."""


class InvalidReferenceError(LottapackError):
    """A text is no path, no repository of the Hub and no OCI image."""


class RegistryError(LottapackError):
    """A registry did not give, or did not take, what was asked."""


class NetworkError(RegistryError):
    """A registry cannot be reached, the connection broke, or the registry itself failed."""


class AccessError(RegistryError):
    """A token is missing or wrong, or lacks the right to do this."""


class NotFoundError(RegistryError):
    """A registry has no such repository, revision, tag or file; or the cache, without a network."""


class ConflictError(RegistryError):
    """Someone else's commit came first, so that nothing was changed."""
