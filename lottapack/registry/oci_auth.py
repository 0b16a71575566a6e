"""Who one is to an OCI registry: credentials from where docker and oras keep them, and answers to a challenge.

Environment variables go first (``ORAS_USER`` and ``ORAS_PASS``, the oras client's own), then the docker configuration
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
_MAX_CHALLENGE, _MAX_TOKEN = 8 << 10, 64 << 10
_TOKEN = re.compile(r"[\x21-\x7e]+")
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or a token used as one."""

    user: str
    password: str

    @property
    def basic(self) -> str:
        """The value of a basic ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class OriginAuth(AuthBase):
    """Adds an ``Authorization`` header, for one origin only. An empty value adds none, and keeps .netrc out."""

    def __init__(self, origin: str, value: str = "") -> None:
        self.origin = origin
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        url = urlsplit(str(request.url))
        if self.value and f"{url.scheme}://{url.netloc}" == self.origin:
            request.headers["Authorization"] = self.value
        return request


def find_credentials(host: str) -> Credentials | None:
    """The credentials for a registry's host, or None. Raises AccessError for a configuration that cannot be read."""
    user, password = os.environ.get("ORAS_USER"), os.environ.get("ORAS_PASS")
    if user and password:
        return Credentials(user, password)
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        raise _unreadable(path, str(fault)) from fault
    if not isinstance(config, dict):
        raise _unreadable(path, "it holds no JSON object")
    keys = (_DOCKER_HUB_KEY,) if host == "docker.io" else (host, f"https://{host}", f"http://{host}")
    for key in keys:
        helper = _object(config, "credHelpers").get(key) or config.get("credsStore")
        found = _from_entry(_object(config, "auths").get(key), path) or (
            _from_helper(str(helper), key) if helper else None
        )
        if found:
            return found
    return None


def _object(config: dict[str, Any], field: str) -> dict[str, Any]:
    value = config.get(field)
    return value if isinstance(value, dict) else {}


def _from_entry(entry: object, path: Path) -> Credentials | None:
    """An entry ``{"auth": base64("user:password")}``; an empty one means that a helper has it."""
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        raise _identity_token(path)
    text = entry.get("auth")
    if not text:
        return None
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, ValueError, TypeError) as fault:
        raise _unreadable(path, "an auth entry is not base64") from fault
    if not colon:
        raise _unreadable(path, "an auth entry is not user:password")
    return Credentials(user, password)


def _from_helper(name: str, key: str) -> Credentials | None:
    """Ask ``docker-credential-<name>``. None: it has none for this host, or is not there."""
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run([program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as fault:
        hint = "Log in again with docker login, or set ORAS_USER and ORAS_PASS."
        raise AccessError(f"{program}, which keeps the login for {key}, does not work: {fault}", hint=hint) from fault
    if done.returncode:
        return None
    try:
        answer = json.loads(done.stdout)
        found = Credentials(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError) as fault:
        raise AccessError(f"{program} gave no Username and Secret for {key}") from fault
    if found.user == "<token>":
        raise _identity_token(program)
    return found


def _identity_token(where: object) -> AccessError:
    hint = "Set ORAS_USER and ORAS_PASS to a user and an access token."
    return AccessError(f"{where} keeps an identity token, which lottapack cannot use", hint=hint)


def _unreadable(path: Path, why: str) -> AccessError:
    hint = "Repair or remove it, or set ORAS_USER and ORAS_PASS."
    return AccessError(f"{path}: the docker configuration cannot be read: {why}", hint=hint)


def fetch_token(
    session: requests.Session, challenge: str, scope: str | None, credentials: Credentials | None, host: str
) -> str:
    """Get a bearer token from the server that a ``WWW-Authenticate`` header names. Changes ``session.auth``.

    ``scope``: what it shall allow; None takes the challenge's own. Raises AccessError; RegistryError for a challenge
    without a server. Source: distribution's token authentication specification.
    """
    if len(challenge) > _MAX_CHALLENGE:
        raise RegistryError(f"{host} asks for a token in {len(challenge):,} characters", hint=answers.DISTRUST)
    asked = parse_auth_header(challenge)
    realm = str(asked.realm or "")
    if not realm.startswith(("https://", "http://")):
        raise RegistryError(f"{host} asks for a token and names no server that gives one", hint="Tell whoever runs it.")
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
        raise RegistryError(f"{realm} gave no token", hint="Tell whoever runs it.")
    return token


def denied(host: str, credentials: Credentials | None) -> AccessError:
    """The error of a registry that does not let one in, with what to do."""
    if credentials is None:
        hint = f"Log in with docker login {host} (or oras login), or set ORAS_USER and ORAS_PASS."
        return AccessError(f"{host} wants a login, and there is none for it", hint=hint)
    hint = "Check the password, and that this user may do it. Log in again with docker login, or set ORAS_USER."
    return AccessError(f"{host} does not let {credentials.user!r} do this", hint=hint)
