"""Rules for answers of any registry: how much of them is read, and where they may lead.

Registries are not trusted. Their texts do not become paths, and their numbers do not become waits or allocations,
before they were compared with known values.
"""

import math
import re
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from lottapack.errors import LottapackError, RegistryError

MAX_ANSWER = 32 << 20
"""The most bytes of an answer that is not a file."""
MAX_PAGES = 100
"""The most pages of a listing."""
MAX_REDIRECTS = 10
MAX_WAIT = 60
"""The most seconds to wait at a server's request."""
ANSWER_SECONDS = 120
"""The seconds within which an answer that is not a file must arrive."""

DISTRUST = "Do not trust this server, or report this to its operator."
_PORTS = {"http": 80, "https": 443}
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')
_USER = re.compile(r"//[^\s/@]+@")
"""A name and a password in an address."""
_RATE = re.compile(r";\s*t\s*=\s*([0-9]{1,18})")


def unreadable(what: str, server: str, fault: BaseException, hint: str) -> LottapackError:
    """Return the error for an answer that cannot be read; a LottapackError is raised unchanged."""
    if isinstance(fault, LottapackError):
        return fault
    words = printable(f"{type(fault).__name__}: {fault}", 200)
    return RegistryError(f"{what}: cannot read the answer of {server}: {words}", hint=hint)


class Patience:
    """How long an answer is waited for: the timeout of each read, which ends with the time that is left for all.

    Without the second limit a server that sends a byte a minute, or interim answers without end, is never refused. The
    time begins with the first read.
    """

    def __init__(self, silence: int, whole: int | None = None) -> None:
        self._silence, self._whole = silence, whole or ANSWER_SECONDS
        self._end: float | None = None

    def renew(self) -> None:
        """Begin again, because something of a file arrived."""
        self._end = None

    def __index__(self) -> int:
        """Return the timeout of the next read in seconds, for ``socket.settimeout``. Raises TimeoutError."""
        now = time.monotonic()
        self._end = now + self._whole if self._end is None else self._end
        if now >= self._end:
            raise TimeoutError(f"the answer takes more than {self._whole} seconds")
        return min(self._silence, math.ceil(self._end - now))


_secrets: set[str] = set()
_SECRET = 8
"""The characters from which on a text is a secret; a shorter one stands in many words."""


def conceal(authorization: str) -> None:
    """Keep what an ``Authorization`` header holds, such as a token, out of every text that printable() returns."""
    secret = authorization.rpartition(" ")[2]
    if len(secret) >= _SECRET:
        _secrets.add(secret)


def printable(words: str, most: int) -> str:
    """Return a server's text on one line, without characters that control a terminal, and without what it was told."""
    for secret in sorted(_secrets, key=len, reverse=True):  # other threads add to it; one may begin another
        words = words.replace(secret, "***")
    words = _USER.sub("//***@", words)  # as in the address of a proxy
    line = " ".join(words[: 4 * most].split())
    return "".join(char for char in line if char.isprintable())[:most]


def without_number(words: str) -> str:
    """Return a system's error text without its number, such as ``[Errno 111]``."""
    return re.sub(r"\[Errno -?[0-9]+\] ", "", words)


def listed(names: Sequence[str]) -> str:
    """Return some of the names that a server sent, for a message."""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(printable(name, 100) for name in names[:10]) + more


def collect(chunks: Iterable[bytes], most: int, what: str) -> bytes:
    """Return the bytes of an answer, reading no more than ``most``. Raises RegistryError."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > most:
            raise RegistryError(f"{what}: the answer has more than {most:,} bytes", hint=DISTRUST)
    return bytes(content)


def coding_of(headers: Mapping[str, str]) -> str:
    """Return the compression of an answer, or an empty text. Some servers send an empty header with each file."""
    coding = headers.get("Content-Encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def refuse_compressed(headers: Mapping[str, str], what: str) -> None:
    """Raise RegistryError for a compressed answer, which is never requested: a small one could become a large one."""
    coding = coding_of(headers)
    if coding:
        raise RegistryError(
            f"{what}: the answer is compressed ({printable(coding, 40)}) without request", hint=DISTRUST
        )


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an address. Raises ValueError if it is malformed."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme, 0)


def follow(base: str, target: str, what: str) -> str:
    """Return the address to which an answer from ``base`` leads: by HTTP, and never from HTTPS to plain HTTP.

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
        raise RegistryError(f"{what}: refusing to follow the registry to {shown!r}", hint=DISTRUST)
    return url


def next_page(base: str, target: str | None, what: str) -> str | None:
    """Return the next page of a listing, only at the same server, because the token is sent too.

    Raises RegistryError.
    """
    if not target:
        return None
    url = follow(base, target, what)
    if origin(url) != origin(base):
        raise RegistryError(f"{what}: the list continues at another server, {printable(url, 200)}", hint=DISTRUST)
    return url


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, or None. Dates are not supported."""
    after = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", after):
        return float(after)
    rate = _RATE.search(headers.get("RateLimit", ""))
    return float(rate[1]) if rate else None


def name_fault(name: str) -> str | None:
    """Return why a name, one part of a path, cannot be a file's name on some system, or None.

    Windows reserves names of devices and removes points and spaces at the end; invisible characters make different
    names look alike.
    """
    if not name:
        return "a part of it is empty"
    if name in (".", ".."):
        return f"{name} in it names a folder"
    if _FORBIDDEN.search(name):
        return 'it contains a control character or one of < > : " | ? * / \\'
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in name):
        return "it contains an invisible character"
    if name != name.strip(" ") or name.endswith("."):
        return "it begins or ends with a space, or ends with a point"
    if _RESERVED.fullmatch(name):
        return "Windows reserves it for a device"
    if len(name.encode()) > 255:
        return "it has more than 255 bytes"
    return None


def iso_time(text: str) -> str:
    """Return a time in ISO 8601. Raises ValueError for anything else."""
    return datetime.fromisoformat(text).isoformat()
