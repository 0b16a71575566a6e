"""The oras client, made fit for files of any size.

What oras 0.2 does not do, and this does: time limits, no silent retries for minutes, uploads that stream, tokens for
the scope that is needed, basic authentication without sending everything twice, plain HTTP to this machine only, and
errors that say what to do.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import msgspec
import oras.provider
import requests
from oras.container import Container

from lottapack.errors import IntegrityError, LottapackError, MissingError, NetworkError, Problem, RegistryError
from lottapack.registry import oci_auth, oci_manifest
from lottapack.registry.oci_manifest import MANIFEST_TYPE, Blob
from lottapack.registry.oci_transport import CHUNK, FileBody, Transport, is_loopback
from lottapack.registry.references import OciReference

MAX_MANIFEST = 4 << 20
MAX_LISTED = 1000
_MAX_ERROR = 64 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


class Client(oras.provider.Registry):  # type: ignore[misc]  # oras has no types
    """One registry, for one reference; a context manager. ``actions``: ``pull`` or ``pull,push``; None: any."""

    def __init__(self, reference: OciReference, actions: str | None) -> None:
        host, repository = reference.host.lower(), reference.repository
        plain = is_loopback(host if host.endswith("]") else host.rsplit(":", 1)[0])
        super().__init__(hostname="registry-1.docker.io" if host == "docker.io" else host, insecure=plain)
        self.host = host
        self.where = str(reference).rstrip("/")
        self.container = _container(self.hostname, repository)
        self._scope = f"repository:{repository}:{actions}" if actions else None
        self._origin = f"{self.prefix}://{self.hostname}"
        self.session.trust_env = not plain  # no proxy on the way to this machine
        self.session.auth = oci_auth.OriginAuth(self._origin)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, Transport(plain))
        self._credentials: oci_auth.Credentials | None = None
        self._basic = False

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: object = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send a request, after logging in if the registry asks for that.

        Returns: the answer if it is a success, or to HEAD if nothing is there. Raises: NetworkError, AccessError,
        MissingError, RegistryError, IntegrityError for a blob that is not what its digest says.
        """
        with self.network():
            response = self._send(url, method, data, headers, json, stream)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status_code == 401 and challenge:
                with response:
                    changed = self._log_in(challenge)
                if changed:
                    response = self._send(url, method, data, headers, json, stream)
        if response.ok or (method == "HEAD" and response.status_code == 404):
            return response
        with response:
            raise self._fault(response)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Turn what goes wrong on the way, also while an answer is being read, into NetworkError or RegistryError."""
        try:
            yield
        except (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.HTTPError,
        ) as fault:
            hint = "Check the address and the network, and do it again: what was done is kept."
            raise NetworkError(f"{self.where}: the connection failed: {_innermost(fault)}", hint=hint) from fault
        except requests.exceptions.RequestException as fault:
            hint = "Plain HTTP is for loopback hosts only; other registries need HTTPS."
            raise RegistryError(f"{self.where}: no way to ask: {fault}", hint=hint) from fault

    def manifest(self, name: str) -> tuple[bytes, str]:
        """The manifest of a tag or digest, and its digest, which is the one asked for. Raises IntegrityError."""
        url = self.manifest_url(name)
        headers = {"Accept": MANIFEST_TYPE, "Accept-Encoding": "identity"}
        problem = ""
        for _ in range(2):
            with self.network(), self.do_request(url, headers=headers, stream=True) as response:
                raw = _read(response, MAX_MANIFEST + 1)
                due = name if name.startswith("sha256:") else response.headers.get("Docker-Content-Digest")
            if len(raw) > MAX_MANIFEST:
                raise RegistryError(f"{self.where}: a manifest of more than {MAX_MANIFEST:,} bytes")
            found = oci_manifest.digest_of(raw)
            if due is None or found == due:
                return raw, found
            problem = f"its SHA-256 is {found}, the registry says {due}"
        hint = "The registry delivers something else than was pushed. Tell whoever runs it, or push again."
        raise IntegrityError(f"{self.where}, {name}", [Problem("sha256", "manifest", problem)], hint=hint)

    def digest(self, name: str) -> str | None:
        """The digest that the registry says a tag has now; None if there is no such tag."""
        with self.do_request(self.manifest_url(name), "HEAD", headers={"Accept": MANIFEST_TYPE}) as response:
            return response.headers.get("Docker-Content-Digest", "") if response.ok else None

    def has(self, blob: Blob) -> bool:
        """Whether the registry has a blob."""
        return bool(self.blob_exists({"digest": blob.digest}, self.container))

    def open_blob(self, blob: Blob, start: int) -> requests.Response:
        """The answer with a blob's bytes, from ``start`` on if the registry can (status 206)."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        url = f"{self.prefix}://{self.container.get_blob_url(blob.digest)}"
        return self.do_request(url, headers=headers, stream=True)

    def upload(self, blob: Blob, content: Path | bytes, advance: Callable[[int], None] | None = None) -> None:
        """Send a blob in one piece. ``advance`` is told the bytes of it sent so far."""
        with self.do_request(f"{self.prefix}://{self.container.upload_blob_url()}", "POST") as response:
            if not response.headers.get("Location"):
                raise RegistryError(f"{self.where}: the registry does not say where to send a blob")
            url = urljoin(response.url, response.headers["Location"])
        url += ("&" if "?" in url else "?") + f"digest={blob.digest}"
        data = content if isinstance(content, bytes) else FileBody(content, blob.size, advance)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        self.do_request(url, "PUT", data=data, headers=headers).close()

    def put_manifest(self, name: str, raw: bytes) -> None:
        """Put a manifest under a tag, unchanged."""
        headers = {"Content-Type": MANIFEST_TYPE}
        with self.do_request(self.manifest_url(name), "PUT", data=raw, headers=headers) as response:
            due = oci_manifest.digest_of(raw)
            found = response.headers.get("Docker-Content-Digest", due)
        if found != due:
            raise RegistryError(f"{self.where}: the registry made {found} of the manifest {due}")

    def tags(self) -> list[str]:
        """The repository's tags, sorted, at most MAX_LISTED. Raises MissingError if there is no such repository."""
        return self._listing(self.container.tags_url(MAX_LISTED), "tags")

    def repositories(self) -> list[str]:
        """The registry's repositories, sorted, at most MAX_LISTED. Raises MissingError where it lists none."""
        return self._listing(f"{self.hostname}/v2/_catalog?n={MAX_LISTED}", "repositories")

    def _listing(self, path: str, field: str) -> list[str]:
        found: list[str] = []
        url: str | None = f"{self.prefix}://{path}"
        while url and len(found) < MAX_LISTED:
            with self.network(), self.do_request(url) as response:
                try:
                    names = msgspec.json.decode(response.content, type=dict[str, Any]).get(field) or []
                except msgspec.DecodeError as fault:
                    raise RegistryError(f"{self.where}: the registry's list of {field} is no JSON") from fault
                more = response.links.get("next", {}).get("url")
                url = urljoin(url, more) if more and names else None
            found += [name for name in names if isinstance(name, str) and _NAME.fullmatch(name)]
        return sorted(found[:MAX_LISTED])

    def manifest_url(self, name: str) -> str:
        """Where the manifest of a tag or digest is."""
        return f"{self.prefix}://{self.container.manifest_url(name)}"

    def _send(
        self, url: str, method: str, data: object, headers: Mapping[str, str] | None, json: object, stream: bool
    ) -> requests.Response:
        return self.session.request(method, url, data=data, json=json, headers=headers, stream=stream)  # type: ignore[no-any-return]

    def _log_in(self, challenge: str) -> bool:
        """Prepare the session for a challenge. False: there is nothing new to try. Raises AccessError."""
        scheme = challenge.partition(" ")[0].lower()
        if self._credentials is None:
            self._credentials = oci_auth.find_credentials(self.host)
        if scheme == "bearer":  # also where there was a token: it may have expired
            token = oci_auth.fetch_token(self.session, challenge, self._scope, self._credentials, self.host)
            value = f"Bearer {token}"
        elif scheme == "basic" and self._credentials is not None and not self._basic:
            self._basic, value = True, self._credentials.basic
        else:
            return False
        self.session.auth = oci_auth.OriginAuth(self._origin, value)
        return True

    def _fault(self, response: requests.Response) -> LottapackError:
        status, (code, told) = response.status_code, _told(response)
        if status in (401, 403):
            return oci_auth.denied(self.host, self._credentials)
        if status == 404:
            hint = "Check the name and the tag; lottapack log names the tags of a repository."
            return MissingError(f"{self.where}: the registry has no such repository, tag or blob{told}", hint=hint)
        if status >= 500 or status == 429:
            return NetworkError(
                f"{self.where}: the registry failed with status {status}{told}", hint="Try again later."
            )
        if code == "DIGEST_INVALID":
            problem = Problem("sha256", str(response.request.url).rpartition("digest=")[2], "other bytes arrived")
            return IntegrityError(self.where, [problem], hint="The file was changed while it was sent. Push it again.")
        return RegistryError(f"{self.where}: the registry refused with status {status}{told}")


def _container(host: str | None, repository: str) -> Container:
    """The oras client's own record, whose parser takes ``localhost/a`` and ``a.b/c`` for other things than they are."""
    container = Container("unnamed", registry=host)
    container.namespace, _, container.repository = repository.rpartition("/")
    return container


def _read(response: requests.Response, limit: int) -> bytes:
    """An answer's content, at most ``limit`` bytes of it."""
    content = b""
    for chunk in response.iter_content(CHUNK):
        content += chunk
        if len(content) >= limit:
            break
    return content[:limit]


def _told(response: requests.Response) -> tuple[str, str]:
    """The code and the words of an OCI error, if the answer is one."""
    try:
        error = msgspec.json.decode(_read(response, _MAX_ERROR))["errors"][0]
        code, message = str(error["code"]), str(error.get("message", ""))
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError, requests.exceptions.RequestException):
        return "", ""
    words = "".join(char for char in f"{code}: {message}"[:200] if char.isprintable())
    return code, f" ({words})"


def _innermost(fault: BaseException) -> str:
    """What really happened, from under the layers of libraries."""
    while fault.__context__ is not None:
        fault = fault.__context__
    return str(fault) or type(fault).__name__
