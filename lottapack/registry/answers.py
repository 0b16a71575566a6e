"""What holds for every answer of a registry, whichever it is: how much of it is read, and where it may lead.

A registry is a stranger. No text of it becomes a path, no number of it becomes a wait or an allocation, before it has
been compared with something of ours.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from lottapack.errors import LottapackError, RegistryError

MAX_ANSWER = 32 << 20
"""Bytes of the longest answer that is not a file."""
MAX_PAGES = 100
"""Pages of the longest listing."""
MAX_REDIRECTS = 10
MAX_WAIT = 60
"""Seconds that a client waits at most because a server asks it to."""
ANSWER_SECONDS = 120
"""Within which an answer that is not a file has to be there."""

DISTRUST = "Do not trust this server, or tell whoever runs it."
_PORTS = {"http": 80, "https": 443}
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')
_RATE = re.compile(r";\s*t\s*=\s*([0-9]{1,18})")


def unreadable(what: str, server: str, fault: BaseException, hint: str) -> LottapackError:
    """The error for an answer that whatever reads it cannot digest. One of ours stays what it is."""
    if isinstance(fault, LottapackError):
        return fault
    words = printable(f"{type(fault).__name__}: {fault}", 200)
    return RegistryError(f"{what}: {server} gives an answer that cannot be read: {words}", hint=hint)


def printable(words: str, most: int) -> str:
    """A server's words on one line, without what steers a terminal."""
    line = " ".join(words.split())
    return "".join(char for char in line if char.isprintable())[:most]


def listed(names: Sequence[str]) -> str:
    """Some of the names that a server gave."""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(printable(name, 100) for name in names[:10]) + more


def collect(chunks: Iterable[bytes], most: int, what: str) -> bytes:
    """The bytes of an answer, of which no more than ``most`` are read. Raises RegistryError."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > most:
            raise RegistryError(f"{what}: the answer has more than {most:,} bytes", hint=DISTRUST)
    return bytes(content)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address. Raises ValueError for one that is malformed."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme, 0)


def follow(base: str, target: str, what: str) -> str:
    """Where an answer from ``base`` leads: by HTTP, and not from an encrypted connection to a plain one.

    Raises RegistryError.
    """
    try:
        url = urljoin(base, target)
        scheme, host, _ = origin(url)
        downgrade = scheme == "http" and origin(base)[0] == "https"
    except ValueError:
        scheme, host, downgrade = "", "", False
    if scheme not in _PORTS or not host or downgrade:
        shown = printable(target, 200)
        raise RegistryError(f"{what}: the registry leads to {shown!r}, which is not followed", hint=DISTRUST)
    return url


def next_page(base: str, target: str | None, what: str) -> str | None:
    """Where a listing goes on: at the same server only, since a token goes along. Raises RegistryError."""
    if not target:
        return None
    url = follow(base, target, what)
    if origin(url) != origin(base):
        raise RegistryError(f"{what}: the list goes on at another server, {printable(url, 200)}", hint=DISTRUST)
    return url


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to be left alone, or None. A date is not understood."""
    after = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", after):
        return float(after)
    rate = _RATE.search(headers.get("RateLimit", ""))
    return float(rate[1]) if rate else None


def name_fault(name: str) -> str | None:
    """Why a name cannot be a file's on some system that packs are used on, or None. For one part of a path.

    Windows reserves names of devices and takes points and spaces off the end; invisible characters make one name look
    like another.
    """
    if not name or name in (".", ".."):
        return "it names no file"
    if _FORBIDDEN.search(name):
        return 'it holds a control character or one of < > : " | ? * / \\'
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in name):
        return "it holds an invisible character"
    if name != name.strip(" ") or name.endswith("."):
        return "it begins or ends with a space, or ends with a point"
    if _RESERVED.fullmatch(name):
        return "Windows keeps it for a device"
    if len(name.encode()) > 255:
        return "it has more than 255 bytes"
    return None


def iso_time(text: str) -> str:
    """A moment as ISO 8601 writes it. Raises ValueError for anything else."""
    return datetime.fromisoformat(text).isoformat()
