"""What huggingface_hub raises, and what a Hub answers, as an error of lottapack with the next step: one table."""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from huggingface_hub import get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    XetDownloadError,
)

from lottapack.errors import (
    AccessError,
    ConflictError,
    InvalidReferenceError,
    LottapackError,
    NetworkError,
    NotFoundError,
    OutputError,
    RegistryError,
)
from lottapack.registry import answers, hub_server

HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""The base of whatever HTTP library huggingface_hub uses in this version: the connection failed, not the request."""

_LOG_IN = "Log in with: hf auth login    (or set HF_TOKEN)."
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(Exception):  # noqa: N818 - the server does, and translated() makes an error of it
    """A Hub answered with an error status. ``code``: its own word for why."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.code = headers.get("X-Error-Code", "")
        self.said = headers.get("X-Error-Message", "") or _message(content)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise whatever asking a Hub and reading its answer may raise as one of ours. ``what``: the reference."""
    try:
        yield
    except (LottapackError, MemoryError):
        raise
    except Exception as fault:
        raise translate(fault, what) from fault


def translate(fault: Exception, what: str) -> LottapackError:
    """Our error for one of theirs; ``what``: the reference it is about."""
    if isinstance(fault.__cause__, LottapackError):
        return fault.__cause__  # of a watched request (hub_guard), which the client wraps in words of its own
    if isinstance(fault, HFValidationError):
        return InvalidReferenceError(f"{what}: {fault}", hint="Write owner/name, as the Hub shows it.")
    if isinstance(fault, LocalTokenNotFoundError):
        return AccessError(f"{what}: no token for {hub_server.endpoint()}", hint=log_in())
    if isinstance(fault, OfflineModeIsEnabled):
        return NetworkError(f"{what}: HF_HUB_OFFLINE is set, so no registry is asked", hint="Unset HF_HUB_OFFLINE.")
    if isinstance(fault, LocalEntryNotFoundError):
        cause = fault.__cause__
        return translate(cause, what) if isinstance(cause, Exception) else _network(what, fault)
    if isinstance(fault, HfHubHTTPError):
        answer = fault.response
        return _refused(answer.status_code, answer.headers.get("X-Error-Code", ""), fault.server_message or "", what)
    if isinstance(fault, Refused):
        return _refused(fault.status, fault.code, fault.said, what)
    if isinstance(fault, OSError) and fault.errno is not None and not isinstance(fault, HTTP_ERROR):
        return _local(fault, what)
    if isinstance(fault, json.JSONDecodeError):
        hint = "Is it a Hub? Check HF_ENDPOINT."
        return RegistryError(f"{what}: {hub_server.endpoint()} answers with something other than JSON", hint=hint)
    if isinstance(fault, (HTTP_ERROR, OSError, EntryNotFoundError, XetDownloadError)) or type(fault) is RuntimeError:
        return _network(what, fault)  # RuntimeError: what hf_xet raises, and a failed upload to LFS
    return answers.unreadable(
        what, hub_server.endpoint(), fault, hint="Is it a Hub? Check HF_ENDPOINT. If it is, tell whoever runs it."
    )


def _local(fault: OSError, what: str) -> OutputError:
    """For a fault of this machine's disk."""
    message = f"{what}: {fault.strerror}: {fault.filename or hub_server.cache()}"
    if fault.errno in _FULL_DISK:
        hint = f"Free some space in {hub_server.cache()}, or set HF_HOME to another disk. Nothing was kept."
        return OutputError(message, hint=hint)
    hint = f"Check that {hub_server.cache()} is writable, or set HF_HOME to a folder that is."
    return OutputError(message, hint=hint)


def _message(content: bytes) -> str:
    """The words of an error's content, if it has the Hub's form."""
    try:
        found = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""


def _refused(status: int, code: str, said: str, what: str) -> LottapackError:
    """For an answer with an error status."""
    where = hub_server.endpoint()
    if code == "GatedRepo":
        return AccessError(
            f"{what}: access is granted by its owner", hint=f"Ask for access at {where}, then try again."
        )
    if code == "RepoNotFound" and status == 404:
        hint = "Check the name. If it is private, the token needs the right to read it."
        hint = hint if get_token() and hub_server.is_own() else f"{hint} {log_in()}"
        return NotFoundError(f"{what}: {where} has no such repository", hint=hint)
    if code == "RevisionNotFound":
        hint = f"See what there is with: lottapack log {what.partition('@')[0]}"
        return NotFoundError(f"{what}: no such branch, tag or commit", hint=hint)
    if code == "EntryNotFound":
        return NotFoundError(f"{what}: {where} has no such file", hint="It may have been removed just now: try again.")
    kind, words, hint = (
        _no_token()
        if status == 401 and not (get_token() and hub_server.is_own())
        else _STATUS.get(status, _OTHER[status >= 500])
    )
    shown = answers.printable(said, 300)
    return kind(f"{what}: {words} {where} (HTTP {status}){f': {shown}' if shown else ''}", hint=hint)


_Row = tuple[type[RegistryError], str, str]
_STATUS: dict[int, _Row] = {
    401: (AccessError, "the token is not accepted by", f"It may be wrong or expired. {_LOG_IN}"),
    403: (AccessError, "the token lacks the right to do this at", f"Use a token that has it. {_LOG_IN}"),
    404: (NotFoundError, "nothing of that name at", "Check the name, and HF_ENDPOINT: is a Hub there?"),
    409: (ConflictError, "someone else's change came first at", "Look with lottapack log, then push again."),
    412: (ConflictError, "someone else's change came first at", "Look with lottapack log, then push again."),
    413: (RegistryError, "too large for", "Ask who runs the registry for a higher limit."),
    429: (NetworkError, "too many requests to", "Wait some minutes, then try again."),
    507: (RegistryError, "no space left at", "Tell who runs the registry. Nothing half-written is left."),
}
"""What a status means: our error, the words before the registry's address, the next step."""

_OTHER: dict[bool, _Row] = {
    False: (RegistryError, "a refusal by", "The registry's own words say what to change."),
    True: (NetworkError, "a failure inside", "Try again later. Nothing half-written is left."),
}


def _no_token() -> _Row:
    return AccessError, "private or not there, and no token was sent to", log_in()


def log_in() -> str:
    """How a token comes to be sent."""
    if hub_server.is_own():
        return _LOG_IN
    return f"A token goes to HF_ENDPOINT only: export HF_ENDPOINT={hub_server.endpoint()}, and leave the address out."


def _network(what: str, fault: Exception) -> NetworkError:
    words = answers.printable(str(fault), 300) or type(fault).__name__
    named = f"HF_ENDPOINT ({hub_server.endpoint()})" if hub_server.is_own() else "the address"
    hint = f"Check the network and {named}, then run the same command again: it goes on."
    return NetworkError(f"{what}: the connection to {hub_server.endpoint()} failed: {words}", hint=hint)
