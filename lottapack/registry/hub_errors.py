"""Translate huggingface_hub's errors and a Hub's refusals to lottapack's errors with a next step, by one table."""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_token
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
from lottapack.registry.references import check_endpoint

HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""The base of connection errors of the HTTP library that huggingface_hub uses in this version."""

_LOG_IN = "Log in with: hf auth login    (or set HF_TOKEN)."
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(Exception):  # noqa: N818 - translated() turns it into an error
    """A Hub answered with an error status. ``code``: its own code for the reason."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.code = headers.get("X-Error-Code", "")
        self.said = headers.get("X-Error-Message", "") or _message(content)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate every error of asking a Hub and reading its answer. ``what``: the reference."""
    check_endpoint(str(constants.ENDPOINT))
    try:
        yield
    except (LottapackError, MemoryError):
        raise
    except Exception as fault:
        raise translate(fault, what) from fault


def translate(fault: Exception, what: str) -> LottapackError:
    """Return lottapack's error for one of theirs. ``what``: the reference."""
    if isinstance(fault.__cause__, LottapackError):
        return fault.__cause__  # from a watched request (hub_guard), which the client wraps
    if isinstance(fault, HFValidationError):
        return InvalidReferenceError(f"{what}: {fault}", hint="Write owner/name, as the Hub shows it.")
    if isinstance(fault, LocalTokenNotFoundError):
        return AccessError(f"{what}: a token for {hub_server.endpoint()} is missing", hint=log_in())
    if isinstance(fault, OfflineModeIsEnabled):
        return NetworkError(
            f"{what}: HF_HUB_OFFLINE is set, which forbids asking a registry", hint="Unset HF_HUB_OFFLINE."
        )
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
        hint = "Check that HF_ENDPOINT names a Hub."
        return RegistryError(f"{what}: the answer of {hub_server.endpoint()} is not JSON", hint=hint)
    if isinstance(fault, (HTTP_ERROR, OSError, EntryNotFoundError, XetDownloadError)) or type(fault) is RuntimeError:
        return _network(what, fault)  # hf_xet and failed uploads to LFS raise RuntimeError
    return answers.unreadable(
        what,
        hub_server.endpoint(),
        fault,
        hint="Check that HF_ENDPOINT names a Hub. If it does, report this to its operator.",
    )


def _local(fault: OSError, what: str) -> OutputError:
    """Return the error for a failure of this machine's disk."""
    cache, setting = hub_server.cache(), hub_server.setting()
    message = f"{what}: {fault.strerror}: {fault.filename or cache}"
    if fault.errno in _FULL_DISK:
        hint = f"Free some space in {cache}, or set {setting} to another disk. Nothing was kept."
    elif fault.filename and not Path(fault.filename).is_relative_to(cache):  # such as the file of the token
        hint = f"Check who may use that path, or set {setting} to another folder."
    else:
        hint = f"Check that {cache} is writable, or set {setting} to a folder that is."
    return OutputError(message, hint=hint)


def _message(content: bytes) -> str:
    """Return the message of an error's content in the Hub's form, or an empty text."""
    try:
        message = json.loads(content)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return message if isinstance(message, str) else ""


def _refused(status: int, code: str, said: str, what: str) -> LottapackError:
    """Return the error for an answer with an error status."""
    where = hub_server.endpoint()
    if code == "GatedRepo":
        return AccessError(f"{what}: its owner must grant access", hint=f"Ask for access at {where}, then try again.")
    if code == "RepoNotFound" and status == 404:
        hint = "Check the name. If it is private, the token needs the right to read it."
        hint = hint if get_token() and hub_server.is_own() else f"{hint} {log_in()}"
        return NotFoundError(f"{what}: the repository does not exist on {where}", hint=hint)
    if code == "RevisionNotFound":
        hint = f"List them with: lottapack log {what.partition('@')[0]}"
        return NotFoundError(f"{what}: the branch, tag or commit does not exist", hint=hint)
    if code == "EntryNotFound":
        return NotFoundError(
            f"{what}: the file does not exist on {where}", hint="It may have been removed just now. Try again."
        )
    kind, words, hint = _STATUS.get(status, _OTHER[status >= 500])
    if status == 401 and not (get_token() and hub_server.is_own()):
        kind, words, hint = AccessError, "private or missing, and no token was sent to", log_in()
    shown = answers.printable(said, 300)
    return kind(f"{what}: {words} {where} (HTTP {status}){f': {shown}' if shown else ''}", hint=hint)


_Row = tuple[type[RegistryError], str, str]
_STATUS: dict[int, _Row] = {
    401: (AccessError, "the token was not accepted by", f"It may be wrong or expired. {_LOG_IN}"),
    403: (AccessError, "the token lacks the right to do this at", f"Use a token that has it. {_LOG_IN}"),
    404: (NotFoundError, "the name does not exist at", "Check the name, and that HF_ENDPOINT names a Hub."),
    409: (ConflictError, "someone else's change came first at", "Check it with lottapack log, then push again."),
    412: (ConflictError, "someone else's change came first at", "Check it with lottapack log, then push again."),
    413: (RegistryError, "too large for", "Ask the registry's operator for a higher limit."),
    429: (NetworkError, "too many requests to", "Wait some minutes, then try again."),
    507: (RegistryError, "the disk is full at", "Report this to the registry's operator. Nothing was changed."),
}
"""For each status, the error, the words before the registry's address, and the next step."""

_OTHER: dict[bool, _Row] = {
    False: (RegistryError, "a refusal by", "The registry's message says what to change."),
    True: (NetworkError, "a failure inside", "Try again later. Nothing was changed."),
}


def log_in() -> str:
    """Return how to send a token."""
    if hub_server.is_own():
        return _LOG_IN
    return f"Tokens are only sent to HF_ENDPOINT. Set HF_ENDPOINT={hub_server.endpoint()}, and leave out the address."


def _network(what: str, fault: Exception) -> NetworkError:
    words = answers.without_number(answers.printable(str(fault), 300)) or type(fault).__name__
    named = f"HF_ENDPOINT ({hub_server.endpoint()})" if hub_server.is_own() else "the address"
    hint = f"Check the network and {named}, then run the same command again; it continues."
    return NetworkError(f"{what}: the connection to {hub_server.endpoint()} failed: {words}", hint=hint)
