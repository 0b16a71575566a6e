"""Identify the user to an OCI registry: credentials of docker and oras, and answers to a challenge.

Environment variables come first (``ORAS_USER`` and ``ORAS_PASS``, the oras client's own), then the docker configuration
(``$DOCKER_CONFIG/config.json``, by default ``~/.docker/config.json``) with its credential helpers.
"""

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from oras.auth.utils import parse_auth_header
from requests.auth import AuthBase

from lottapack.errors import AccessError, RegistryError
from lottapack.registry import answers, oci_transport

_HELPER_TIMEOUT = 60
_SET_THEM = "Set ORAS_USER and ORAS_PASS to a user and an access token."
_MAX_CHALLENGE, _MAX_TOKEN = 8 << 10, 64 << 10
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CHALLENGE = re.compile(r"(?:^|,)\s*(bearer|basic)(?=\s|,|$)", re.IGNORECASE)
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or a token in place of one."""

    user: str
    password: str

    @property
    def basic(self) -> str:
        """The value of a basic ``Authorization`` header."""
        answers.conceal(self.password)
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class OriginAuth(AuthBase):
    """Adds an ``Authorization`` header for one origin only. An empty value adds none, and keeps .netrc out."""

    def __init__(self, origin: str, value: str = "") -> None:
        self.origin = origin
        self.value = value
        answers.conceal(value)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        if self.value and answers.origin(str(request.url)) == answers.origin(self.origin):
            request.headers["Authorization"] = self.value
        return request


def find_credentials(host: str) -> Credentials | None:
    """Return the credentials for a registry's host, or None. Raises AccessError if a configuration cannot be read."""
    user, password = os.environ.get("ORAS_USER"), os.environ.get("ORAS_PASS")
    if user and password:
        return Credentials(user, password)
    path = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker", "config.json")
    try:
        path = path.expanduser()
        config = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, RuntimeError):  # the second: the user does not have a home folder
        return None
    except (OSError, ValueError) as fault:
        raise _unreadable(path, str(fault)) from fault
    if not isinstance(config, dict):
        raise _unreadable(path, "it is not a JSON object")
    keys = (_DOCKER_HUB_KEY,) if host == "docker.io" else (host, f"https://{host}", f"http://{host}")
    for key in keys:
        helper = _object(config, "credHelpers").get(key) or config.get("credsStore")
        credentials = _from_entry(_object(config, "auths").get(key), path) or (
            _from_helper(str(helper), key) if helper else None
        )
        if credentials:
            return credentials
    # As docker wrote and writes the keys of some registries.
    for key in (f"{scheme}{host}{end}" for scheme in ("https://", "http://", "") for end in ("/", "/v2/")):
        if credentials := _from_entry(_object(config, "auths").get(key), path):
            return credentials
    return None


def challenges(header: str) -> dict[str, str]:
    """Return the challenges of a ``WWW-Authenticate`` header, which may hold several, by scheme in lower case."""
    begins = list(_CHALLENGE.finditer(header))
    ends = [begin.start() for begin in begins[1:]] + [len(header)]
    return {
        begin[1].lower(): header[begin.start(1) : end].rstrip(", ") for begin, end in zip(begins, ends, strict=True)
    }


def _object(config: dict[str, Any], field: str) -> dict[str, Any]:
    value = config.get(field)
    return value if isinstance(value, dict) else {}


def _from_entry(entry: object, path: Path) -> Credentials | None:
    """Read an entry ``{"auth": base64("user:password")}``, or one with a ``username`` and a ``password``.

    An empty one means that a helper has the credentials.
    """
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        raise _identity_token(path)
    text = entry.get("auth")
    user, password = entry.get("username"), entry.get("password")
    if not text and isinstance(user, str) and isinstance(password, str) and user and password:
        return Credentials(user, password)
    if not text:
        return None
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, ValueError, TypeError) as fault:
        raise _unreadable(path, "an auth entry is not base64") from fault
    if not colon:
        raise _unreadable(path, "an auth entry does not have the form user:password")
    return Credentials(user, password)


def _from_helper(name: str, key: str) -> Credentials | None:
    """Ask ``docker-credential-<name>``; return None if it does not exist, or has nothing for this host."""
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run([program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as fault:
        hint = "Log in again with docker login, or set ORAS_USER and ORAS_PASS."
        raise AccessError(f"{program}, which stores the login for {key}, does not work: {fault}", hint=hint) from fault
    if done.returncode:
        return None
    try:
        answer = json.loads(done.stdout)
        credentials = Credentials(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError) as fault:
        raise AccessError(f"{program} did not return a Username and Secret for {key}", hint=_SET_THEM) from fault
    if credentials.user == "<token>":
        raise _identity_token(program)
    return credentials


def _identity_token(where: object) -> AccessError:
    hint = _SET_THEM
    return AccessError(f"{where} contains an identity token, which lottapack cannot use", hint=hint)


def _unreadable(path: Path, why: str) -> AccessError:
    hint = "Repair or remove it, or set ORAS_USER and ORAS_PASS."
    return AccessError(f"cannot read the docker configuration {path}: {why}", hint=hint)


def fetch_token(
    session: requests.Session, challenge: str, scope: str | None, credentials: Credentials | None, host: str
) -> str:
    """Get a bearer token from the server that a ``WWW-Authenticate`` header names. Changes ``session.auth``.

    ``scope``: the requested rights; None takes the challenge's own. Raises AccessError; RegistryError for a challenge
    without a server. Source: distribution's token authentication specification.
    """
    if len(challenge) > _MAX_CHALLENGE:
        raise RegistryError(f"{host} sent a token challenge of {len(challenge):,} characters", hint=answers.DISTRUST)
    asked = parse_auth_header(challenge)
    realm = str(asked.realm or "")
    if not realm.startswith(("https://", "http://")):
        raise RegistryError(
            f"{host} requires a token, but does not name a server that issues it", hint="Report this to its operator."
        )
    fields = {"service": asked.service, "scope": scope or asked.scope, "client_id": "lottapack"}
    session.auth = OriginAuth("://".join(urlsplit(realm)[:2]), credentials.basic if credentials else "")
    params = {key: value for key, value in fields.items() if value}
    with oci_transport.exchange(session, "GET", realm, host, params=params) as response:
        if response.status_code in (400, 401, 403):
            raise denied(host, credentials)
        response.raise_for_status()
        answer = json.loads(oci_transport.content(response, _MAX_TOKEN, host))
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise RegistryError(
            f"{answers.printable(realm, 200)} did not return a token", hint="Report this to its operator."
        )
    return token


def denied(host: str, credentials: Credentials | None) -> AccessError:
    """Return the error of a registry that denies access, with the next step."""
    if credentials is None:
        hint = f"Log in with docker login {host} (or oras login), or set ORAS_USER and ORAS_PASS."
        return AccessError(f"{host} requires a login, but none is stored for it", hint=hint)
    hint = "Check the password, and that this user has the right. Log in again with docker login, or set ORAS_USER."
    return AccessError(f"{host} does not allow this to {credentials.user!r}", hint=hint)
