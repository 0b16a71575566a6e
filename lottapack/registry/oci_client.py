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

import msgspec
import oras.provider
import requests
from oras.container import Container

from lottapack.errors import IntegrityError, LottapackError, NetworkError, NotFoundError, Problem, RegistryError
from lottapack.registry import answers, oci_auth, oci_manifest, oci_transport
from lottapack.registry.downloading import Body
from lottapack.registry.oci_manifest import MANIFEST_TYPE, Blob
from lottapack.registry.oci_transport import FileBody, Transport, is_loopback
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
        # exchange() follows redirects; requests would read the whole content of one to prepare the next.
        self.session.get_redirect_target = lambda _: None
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
        """Send a request, after logging in if the registry asks for that. ``stream``: the content is left to be read.

        Returns: the answer if it is a success, or to HEAD if nothing is there. Raises: NetworkError, AccessError,
        NotFoundError, RegistryError, IntegrityError for a blob that is not what its digest says.
        """
        options = {"data": data, "headers": headers, "json": json}
        with self.network():
            response = oci_transport.exchange(self.session, method, url, self.where, **options)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status_code == 401 and challenge:
                with response:
                    changed = self._log_in(challenge)
                if changed:
                    response = oci_transport.exchange(self.session, method, url, self.where, **options)
            known = {404} if method == "HEAD" else {416} if "Range" in (headers or {}) else set()
            if not response.ok and response.status_code not in known:
                with response:
                    raise self._fault(response)
            if not stream:
                with response:
                    oci_transport.drain(response, self.where)
            return response

    @contextmanager
    def network(self) -> Iterator[None]:
        """Turn what goes wrong on the way, also while an answer is being read, into NetworkError or RegistryError."""
        try:
            yield
        except (LottapackError, MemoryError):
            raise
        except requests.exceptions.RequestException as fault:
            raise self._failed(fault) from fault
        except (ConnectionError, TimeoutError) as fault:
            raise self._failed(requests.exceptions.ConnectionError(fault)) from fault
        except Exception as fault:
            hint = "Check the address. If it is right, tell whoever runs the registry."
            raise answers.unreadable(self.where, self.host, fault, hint) from fault

    def _failed(self, fault: requests.exceptions.RequestException) -> LottapackError:
        passing = (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.HTTPError,
        )
        if isinstance(fault, passing):
            words = answers.printable(_innermost(fault), 300)
            hint = "Check the address and the network, and do it again: what was done is kept."
            return NetworkError(f"{self.where}: the connection failed: {words}", hint=hint)
        hint = "Plain HTTP is for loopback hosts only; other registries need HTTPS."
        return RegistryError(f"{self.where}: no way to ask: {answers.printable(str(fault), 300)}", hint=hint)

    def manifest(self, name: str) -> tuple[bytes, str]:
        """The manifest of a tag or digest, and its digest, which is the one asked for. Raises IntegrityError."""
        url = self.manifest_url(name)
        headers = {"Accept": MANIFEST_TYPE, "Accept-Encoding": "identity"}
        problem = ""
        for _ in range(2):
            with self.network(), self.do_request(url, headers=headers, stream=True) as response:
                raw = oci_transport.content(response, MAX_MANIFEST, self.where)
                due = name if name.startswith("sha256:") else response.headers.get("Docker-Content-Digest")
            found = oci_manifest.digest_of(raw)
            if due is None or found == due:
                return raw, found
            problem = f"its SHA-256 is {found}, the registry says {answers.printable(due, 100)}"
        hint = "The registry delivers something else than was pushed. Tell whoever runs it, or push again."
        raise IntegrityError(f"{self.where}, {name}", [Problem("sha256", "manifest", problem)], hint=hint)

    def digest(self, name: str) -> str | None:
        """The digest that the registry says a tag has now; None if there is no such tag."""
        with self.do_request(self.manifest_url(name), "HEAD", headers={"Accept": MANIFEST_TYPE}) as response:
            return response.headers.get("Docker-Content-Digest", "") if response.ok else None

    def has(self, blob: Blob) -> bool:
        """Whether the registry has a blob."""
        return bool(self.blob_exists({"digest": blob.digest}, self.container))

    @contextmanager
    def open_blob(self, blob: Blob, start: int) -> Iterator[Body]:
        """A blob's bytes as they come, from ``start`` on if the registry can. Raises as do_request()."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = f"{self.prefix}://{self.container.get_blob_url(blob.digest)}"
        with self.do_request(url, headers=headers, stream=True) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Body(response.status_code, found, self._chunks(response))

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        with self.network():
            yield from oci_transport.chunks(response, self.where)

    def upload(self, blob: Blob, content: Path | bytes, advance: Callable[[int], None] | None = None) -> None:
        """Send a blob in one piece. ``advance`` is told the bytes of it sent so far."""
        with self.do_request(f"{self.prefix}://{self.container.upload_blob_url()}", "POST") as response:
            if not response.headers.get("Location"):
                raise RegistryError(
                    f"{self.where}: the registry does not say where to send a blob", hint=answers.DISTRUST
                )
            url = answers.follow(response.url, response.headers["Location"], self.where)
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
            shown = answers.printable(found, 100)
            raise RegistryError(f"{self.where}: the registry made {shown} of the manifest {due}", hint=answers.DISTRUST)

    def tags(self) -> list[str]:
        """The repository's tags, sorted, at most MAX_LISTED. Raises NotFoundError if there is no such repository."""
        return self._listing(self.container.tags_url(MAX_LISTED), "tags")

    def repositories(self) -> list[str]:
        """The registry's repositories, sorted, at most MAX_LISTED. Raises NotFoundError where it lists none."""
        return self._listing(f"{self.hostname}/v2/_catalog?n={MAX_LISTED}", "repositories")

    def _listing(self, path: str, field: str) -> list[str]:
        found: list[str] = []
        url: str | None = f"{self.prefix}://{path}"
        for _ in range(answers.MAX_PAGES):
            if not url or len(found) >= MAX_LISTED:
                return sorted(found[:MAX_LISTED])
            with self.network(), self.do_request(url, stream=True) as response:
                answer = msgspec.json.decode(oci_transport.content(response, MAX_MANIFEST, self.where))
                names = (answer.get(field) or []) if isinstance(answer, dict) else None
                if not isinstance(names, list):
                    raise RegistryError(f"{self.where}: the registry's list of {field} is none", hint=answers.DISTRUST)
                url = answers.next_page(url, response.links.get("next", {}).get("url") if names else None, self.where)
            found += [name for name in names if isinstance(name, str) and _NAME.fullmatch(name)]
        raise RegistryError(f"{self.where}: the list has more than {answers.MAX_PAGES} pages", hint=answers.DISTRUST)

    def manifest_url(self, name: str) -> str:
        """Where the manifest of a tag or digest is."""
        return f"{self.prefix}://{self.container.manifest_url(name)}"

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
        status, (code, told) = response.status_code, _told(response, self.where)
        if status in (401, 403):
            return oci_auth.denied(self.host, self._credentials)
        if status == 404:
            hint = "Check the name and the tag; lottapack log names the tags of a repository."
            return NotFoundError(f"{self.where}: the registry has no such repository, tag or blob{told}", hint=hint)
        if status >= 500 or status == 429:
            return NetworkError(
                f"{self.where}: the registry failed with status {status}{told}", hint="Try again later."
            )
        if code == "DIGEST_INVALID":
            problem = Problem("sha256", str(response.request.url).rpartition("digest=")[2], "other bytes arrived")
            return IntegrityError(self.where, [problem], hint="The file was changed while it was sent. Push it again.")
        hint = "The registry's own words, if it has any, say what to change."
        return RegistryError(f"{self.where}: the registry refused with status {status}{told}", hint=hint)


def _container(host: str | None, repository: str) -> Container:
    """The oras client's own record, whose parser takes ``localhost/a`` and ``a.b/c`` for other things than they are."""
    container = Container("unnamed", registry=host)
    container.namespace, _, container.repository = repository.rpartition("/")
    return container


def _told(response: requests.Response, where: str) -> tuple[str, str]:
    """The code and the words of an OCI error, if the answer is one."""
    try:
        error = msgspec.json.decode(oci_transport.content(response, _MAX_ERROR, where))["errors"][0]
        code, message = str(error["code"]), str(error.get("message", ""))
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError, ValueError, RecursionError, RegistryError):
        return "", ""
    except requests.exceptions.RequestException:
        return "", ""
    return code, f" ({answers.printable(f'{code}: {message}', 200)})"


def _innermost(fault: BaseException) -> str:
    """What really happened, from under the layers of libraries."""
    while fault.__context__ is not None:
        fault = fault.__context__
    return str(fault) or type(fault).__name__
