"""Parse references: a repository of the Hub, an OCI image, or a path."""

import os
import re
import reprlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from lottapack.errors import InvalidReferenceError
from lottapack.files.paths import path_of
from lottapack.format.container import PACK_END

HUB, OCI = "hf://", "oci://"
_HTTP = ("http://", "https://")

_REMOTE = (
    "owner/name[@revision] for a repository of the Hub, http(s)://host/owner/name for another server's, or "
    "oci://host/repository:tag for an OCI image."
)
_WRITE_REMOTE = f"Write {_REMOTE}"
FORMS = f"Write ./model.lotta.safetensors for a file, {_REMOTE}"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REPO = re.compile(rf"{_NAME}/{_NAME}")
_OWNER = re.compile(_NAME)
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]*[A-Za-z0-9_+-])?")
COMMIT = re.compile(r"[0-9a-f]{40}")
"""A commit's id, which is also how git names a file's content."""
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?")
_LAST_PORT = 65535
_PLAIN = re.compile(r'[!"$->@-~]+')
"""Printable ASCII without spaces, ``?`` and ``#``."""
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
IMAGE = re.compile(rf"{_PART}(?:/{_PART})*")
"""The name of a repository in an OCI registry."""
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""A tag there."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubReference:
    """A model repository of the Hub. ``repo``: ``owner/name``. ``revision``: a branch, tag or commit.

    ``server``: the address of the server if the text names one; None for that of ``HF_ENDPOINT``.
    """

    repo: str
    revision: str | None = None
    server: str | None = None

    def __str__(self) -> str:
        named = f"{self.server}/{self.repo}" if self.server else self.repo
        return f"{named}@{self.revision}" if self.revision else named

    @property
    def commit(self) -> str | None:
        """The revision if it is a full commit hash, whose meaning never changes."""
        return self.revision if self.revision and COMMIT.fullmatch(self.revision) else None


@dataclass(frozen=True, slots=True)
class OciReference:
    """An image.

    ``host``: with its port, if any. ``digest``: ``sha256:`` and 64 hex digits. Tag and digest exclude each other.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        end = f":{self.tag}" if self.tag else f"@{self.digest}" if self.digest else ""
        return f"{OCI}{self.host}/{self.repository}{end}"


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner of packs: ``name`` on the Hub, or with ``host`` the repositories there below ``name``.

    ``server``: as in HubReference.
    """

    name: str
    host: str | None = None
    server: str | None = None

    def __str__(self) -> str:
        if self.server:
            return f"{self.server}/{self.name}"
        return f"{OCI}{self.host}/{self.name}".rstrip("/") if self.host else self.name


Reference = HubReference | OciReference | Path


def parse(text: str | PathLike[str]) -> Reference:
    """Parse a reference. An existing file, or a folder with a pack, takes precedence over a repository of that name.

    Args:
        text: a path, ``owner/name[@revision]``, ``http(s)://host/owner/name[@revision]``, or
            ``oci://host/repository[:tag]`` (or ``@sha256:...``).

    Returns:
        The path, the repository of the Hub, or the image.

    Raises:
        InvalidReferenceError: the text does not have any of these forms.

    Source:
        spec/v1/oci.md.

    Examples:
        >>> lottapack.registry.parse("my-org/digits@v1")
        HubReference(repo='my-org/digits', revision='v1', server=None)
    """
    if not isinstance(text, str):
        return path_of(text, "path")
    if _is_path(text):
        return Path(text)
    try:
        return parse_remote(text)
    except InvalidReferenceError as fault:
        missing = "" if "/" in text else ", and a file of that name does not exist"
        hint = FORMS if fault.hint == _WRITE_REMOTE else fault.hint
        raise InvalidReferenceError(fault.message + missing, hint=hint) from None


def parse_remote(text: str) -> HubReference | OciReference:
    """Parse a reference to a registry, without looking at the files of this machine.

    Args:
        text: as in parse(), except paths.

    Returns:
        The repository of the Hub, or the image.

    Raises:
        InvalidReferenceError: the text is a path, or not a reference.

    Source:
        spec/v1/oci.md.

    Examples:
        >>> lottapack.registry.parse_remote("oci://localhost:5000/models/digits:v1").tag
        'v1'
    """
    if not isinstance(text, str):
        raise InvalidReferenceError(f"{reprlib.repr(text)} is not a reference", hint=_WRITE_REMOTE)
    if text.startswith(OCI):
        return _image(text)
    if text.startswith(HUB):
        return _repository(text, text.removeprefix(HUB))
    if text.startswith(_HTTP):
        return _served(text)
    if "://" in text:
        raise InvalidReferenceError(f"{text!r} has an unknown scheme", hint=_WRITE_REMOTE)
    if _looks_like_path(text):
        raise InvalidReferenceError(f"{text!r} is a path, not a reference to a registry", hint=_WRITE_REMOTE)
    return _repository(text, text)


def parse_owner(text: str) -> Owner:
    """Parse ``my-org``, ``hf://my-org``, ``oci://host`` or ``oci://host/models``. Raises InvalidReferenceError."""
    hint = "Pass a user or organisation, such as my-org, http(s)://host/my-org, or oci://host[/prefix]."
    if not isinstance(text, str):
        raise InvalidReferenceError(f"{reprlib.repr(text)} does not name an owner of packs", hint=hint)
    if text.startswith(OCI):
        host, _, name = text.removeprefix(OCI).rstrip("/").partition("/")
        if _is_host(host) and (not name or IMAGE.fullmatch(name)):
            return Owner(name, host)
    elif text.startswith(_HTTP):
        server, _, name = text.rstrip("/").rpartition("/")
        if _is_server(server) and _is_name(name, _OWNER):
            return Owner(name, server=server)
    elif _is_name(text.removeprefix(HUB), _OWNER):
        return Owner(text.removeprefix(HUB))
    raise InvalidReferenceError(f"{text!r} does not name an owner of packs", hint=hint)


def is_repository(text: str) -> bool:
    """Return whether a text is the name of a repository of the Hub, ``owner/name``."""
    return _is_name(text, _REPO)


def is_revision(text: str) -> bool:
    """Return whether a text can be a branch, tag or commit in a reference."""
    return _REVISION.fullmatch(text) is not None and ".." not in text and "//" not in text


def _is_path(text: str) -> bool:
    # OSError: a text too long for a file name. ValueError: a text with a NUL.
    try:
        return "://" not in text and (_looks_like_path(text) or Path(text).is_file() or _is_folder(text))
    except (OSError, ValueError):
        return False


def _looks_like_path(text: str) -> bool:
    began = text.startswith((".", "~")) or Path(text).is_absolute() or (os.sep != "/" and os.sep in text)
    return began or text.endswith((".safetensors", "/"))


def _is_folder(text: str) -> bool:
    """Return whether a folder is meant: one with a pack, or whose name cannot be that of a repository."""
    folder = Path(text)
    return text != "" and folder.is_dir() and (not is_repository(text) or any(folder.glob(f"*{PACK_END}")))


def _is_name(text: str, pattern: re.Pattern[str]) -> bool:
    # The Hub's rule: at most 96 characters, without -- or .. and without .git at the end.
    plain = "--" not in text and ".." not in text and not text.endswith(".git")
    return len(text) <= 96 and plain and pattern.fullmatch(text) is not None


def _repository(text: str, rest: str) -> HubReference:
    repo, at, revision = rest.partition("@")
    if not is_repository(repo):
        which = "" if repo == text else f"{repo!r} "
        raise InvalidReferenceError(f"{text!r}{': ' if which else ' '}{which}is not owner/name", hint=_WRITE_REMOTE)
    if at and not is_revision(revision):
        raise InvalidReferenceError(f"{text!r}: {revision!r} cannot be a branch, tag or commit", hint=_WRITE_REMOTE)
    return HubReference(repo, revision or None)


def _served(text: str) -> HubReference:
    """Parse ``http://host[:port]/owner/name[@revision]``, or the address of a page of it, ``.../tree/revision``."""
    scheme, _, rest = text.partition("://")
    host, _, path = rest.partition("/")
    server = f"{scheme}://{host}"
    if not _is_server(server):
        raise InvalidReferenceError(f"{text!r}: {host!r} is not a host[:port]", hint=_WRITE_REMOTE)
    repo, tree, revision = path.rstrip("/").partition("/tree/")
    parsed = _repository(text, f"{repo}@{revision}" if tree else repo)
    return HubReference(parsed.repo, parsed.revision, server)


def _is_host(text: str) -> bool:
    """Return whether a text is a host, perhaps with a port."""
    match = _HOST.fullmatch(text)
    return match is not None and int(match[1] or 0) <= _LAST_PORT


def _is_server(text: str) -> bool:
    return text.startswith(_HTTP) and _is_host(text.partition("://")[2])


def check_endpoint(address: str) -> None:
    """Raise InvalidReferenceError for an ``HF_ENDPOINT`` that is not the address of a server, perhaps with a path."""
    if not (_PLAIN.fullmatch(address) and _is_server("/".join(address.split("/")[:3]))):
        shown = re.sub("//.*@", "//***@", address)  # a name and a password
        raise InvalidReferenceError(
            f"HF_ENDPOINT={shown!r} is not the address of a server",
            hint="Set it to http(s)://host[:port], or unset it for the Hugging Face Hub.",
        )


def _image(text: str) -> OciReference:
    host, slash, rest = text.removeprefix(OCI).partition("/")
    if not slash or not _is_host(host):
        raise InvalidReferenceError(
            f"{text!r}: {host!r} is not a host[:port] followed by a repository", hint=_WRITE_REMOTE
        )
    named, at, digest = rest.partition("@")
    repository, colon, tag = named.partition(":")
    if at and colon:
        raise InvalidReferenceError(f"{text!r} has both a tag and a digest", hint="Leave out the tag.")
    if not IMAGE.fullmatch(repository) or len(repository) > 255:
        raise InvalidReferenceError(
            f"{text!r}: {repository!r} is not an OCI repository (lower case, digits, . _ - /)", hint=_WRITE_REMOTE
        )
    if colon and not TAG.fullmatch(tag):
        raise InvalidReferenceError(f"{text!r}: {tag!r} is not an OCI tag", hint=_WRITE_REMOTE)
    if at and not DIGEST.fullmatch(digest):
        raise InvalidReferenceError(
            f"{text!r}: {digest!r} is not a sha256: digest of 64 hex digits", hint=_WRITE_REMOTE
        )
    return OciReference(host, repository, tag or None, digest or None)
