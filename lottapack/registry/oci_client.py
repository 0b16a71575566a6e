"""An adapted oras client that works for files of any size.

It adds what oras 0.2 lacks: time limits, no silent retries for minutes, streaming uploads, tokens for the required
scope, basic authentication without sending everything twice, plain HTTP to this machine only, and errors with a
next step.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import msgspec
import oras.provider
import requests
from oras.container import Container

from lottapack.errors import (
    AccessError,
    IntegrityError,
    LottapackError,
    NetworkError,
    NotFoundError,
    Problem,
    RegistryError,
)
from lottapack.registry import answers, oci_auth, oci_manifest, oci_transport
from lottapack.registry.downloading import Body
from lottapack.registry.oci_manifest import MANIFEST_TYPE, Blob
from lottapack.registry.oci_transport import FileBody, Transport, is_loopback
from lottapack.registry.references import IMAGE, TAG, OciReference

MAX_MANIFEST = 4 << 20
MAX_LISTED = 1000
_MAX_ERROR = 64 << 10
_LISTED = {"tags": TAG, "repositories": IMAGE}
"""The names that a list is asked for; others cannot be pulled."""


class Client(oras.provider.Registry):  # type: ignore[misc]  # oras does not have types
    """A client of one registry for one reference; a context manager.

    ``actions``: ``pull``, ``pull,push``; None: any.
    """

    def __init__(self, reference: OciReference, actions: str | None) -> None:
        host, repository = reference.host.lower(), reference.repository
        plain = is_loopback(host if host.endswith("]") else host.rsplit(":", 1)[0])
        super().__init__(hostname="registry-1.docker.io" if host == "docker.io" else host, insecure=plain)
        self.host = host
        self.where = str(reference).rstrip("/")
        self.container = _container(self.hostname, repository)
        self._scope = f"repository:{repository}:{actions}" if actions else None
        self._origin = f"{self.prefix}://{self.hostname}"
        self.session.trust_env = not plain  # do not use a proxy for this machine
        self.session.auth = oci_auth.OriginAuth(self._origin)
        # exchange() follows redirects; requests would read the whole content of one before following it.
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
        """Send a request, and log in first if the registry requires it. ``stream``: leave the content to be read.

        Returns the answer if it is a success, or to HEAD also if nothing is there. Raises NetworkError, AccessError,
        NotFoundError, RegistryError; IntegrityError for a blob that does not match its digest.
        """
        options = {"data": data, "headers": headers, "json": json}
        with self.network():
            response = oci_transport.exchange(self.session, method, url, self.where, **options)
            challenge = response.headers.get("WWW-Authenticate", "")
            if response.status_code == 401 and challenge and self._is_own(response):
                with response:
                    changed = self._log_in(challenge)
                if changed:
                    response = oci_transport.exchange(self.session, method, url, self.where, **options)
            known = {404} if method == "HEAD" else {416} if "Range" in (headers or {}) else set()
            if not 200 <= response.status_code < 300 and response.status_code not in known:
                with response:
                    raise self._fault(response)
            if not stream:
                with response:
                    oci_transport.drain(response, self.where)
            return response

    @contextmanager
    def network(self) -> Iterator[None]:
        """Translate network failures, also while an answer is read, to NetworkError or RegistryError."""
        try:
            yield
        except (LottapackError, MemoryError):
            raise
        except requests.exceptions.RequestException as fault:
            raise self._failed(fault) from fault
        except (ConnectionError, TimeoutError) as fault:
            raise self._failed(requests.exceptions.ConnectionError(fault)) from fault
        except OSError as fault:  # as requests raises for certificates that are missing
            raise self._failed(requests.exceptions.RequestException(fault)) from fault
        except Exception as fault:
            hint = "Check the address. If it is right, report this to the registry's operator."
            raise answers.unreadable(self.where, self.host, fault, hint) from fault

    def _failed(self, fault: requests.exceptions.RequestException) -> LottapackError:
        passing = (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.HTTPError,
        )
        if isinstance(fault, passing):
            words = answers.without_number(answers.printable(_innermost(fault), 300))
            hint = "Check the address and the network, then try again; finished parts are kept."
            return NetworkError(f"{self.where}: the connection failed: {words}", hint=hint)
        hint = "Check the variables of certificates and proxies, such as REQUESTS_CA_BUNDLE and HTTPS_PROXY."
        if isinstance(fault, oci_transport.UnencryptedError):
            hint = "Use HTTPS. Plain HTTP is only allowed for loopback hosts."
        return RegistryError(f"{self.where}: cannot send the request: {answers.printable(str(fault), 300)}", hint=hint)

    def manifest(self, name: str) -> tuple[bytes, str]:
        """Return the manifest of a tag or digest, and its digest.

        Raises IntegrityError if it is not the requested one.
        """
        url = self.manifest_url(name)
        headers = {"Accept": MANIFEST_TYPE, "Accept-Encoding": "identity"}
        problem = ""
        for _ in range(2):
            with self.network(), self.do_request(url, headers=headers, stream=True) as response:
                raw = oci_transport.content(response, MAX_MANIFEST, self.where)
                expected = name if name.startswith("sha256:") else response.headers.get("Docker-Content-Digest")
            computed = oci_manifest.digest_of(raw)
            if expected is None or computed == expected:
                return raw, computed
            problem = f"has the SHA-256 {computed}, but the registry says {answers.printable(expected, 100)}"
        hint = "The registry delivers something else than was pushed. Report this to its operator."
        raise IntegrityError(f"{self.where}, {name}", [Problem("sha256", "manifest", problem)], hint=hint)

    def digest(self, name: str) -> str | None:
        """Return the digest that the registry gives for a tag, or None if the tag does not exist."""
        with self.do_request(self.manifest_url(name), "HEAD", headers={"Accept": MANIFEST_TYPE}) as response:
            return response.headers.get("Docker-Content-Digest", "") if response.ok else None

    def has(self, blob: Blob) -> bool:
        """Return whether the registry has a blob."""
        return bool(self.blob_exists({"digest": blob.digest}, self.container))

    @contextmanager
    def open_blob(self, blob: Blob, start: int) -> Iterator[Body]:
        """Open a blob's stream, from ``start`` on if the registry supports it. Raises the errors of do_request()."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = f"{self.prefix}://{self.container.get_blob_url(blob.digest)}"
        with self.do_request(url, headers=headers, stream=True) as response:
            answer_headers = {name.lower(): value for name, value in response.headers.items()}
            yield Body(response.status_code, answer_headers, self._chunks(response))

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        with self.network():
            yield from oci_transport.chunks(response, self.where, is_file=True)

    def upload(self, blob: Blob, content: Path | bytes, advance: Callable[[int], None] | None = None) -> None:
        """Send a blob in one piece. ``advance`` is called with the bytes sent so far."""
        with self.do_request(f"{self.prefix}://{self.container.upload_blob_url()}", "POST") as response:
            if not response.headers.get("Location"):
                raise RegistryError(
                    f"{self.where}: the registry did not return an address for a blob", hint=answers.DISTRUST
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
            expected = oci_manifest.digest_of(raw)
            returned = response.headers.get("Docker-Content-Digest", expected)
        if returned != expected:
            shown = answers.printable(returned, 100)
            raise RegistryError(
                f"{self.where}: the registry stored the manifest {expected} as {shown}", hint=answers.DISTRUST
            )

    def tags(self) -> list[str]:
        """Return the repository's tags, sorted; of more than MAX_LISTED, the first ones and one more.

        Raises NotFoundError for an unknown repository.
        """
        return self._listing(self.container.tags_url(MAX_LISTED), "tags")

    def repositories(self) -> list[str]:
        """Return the registry's repositories as tags() does.

        Raises NotFoundError if it does not list them.
        """
        return self._listing(f"{self.hostname}/v2/_catalog?n={MAX_LISTED}", "repositories")

    def _listing(self, path: str, field: str) -> list[str]:
        listed: list[str] = []
        url: str | None = f"{self.prefix}://{path}"
        for _ in range(answers.MAX_PAGES):
            if not url or len(listed) > MAX_LISTED:
                return sorted(listed)[: MAX_LISTED + 1]
            with self.network(), self.do_request(url, stream=True) as response:
                answer = msgspec.json.decode(oci_transport.content(response, MAX_MANIFEST, self.where))
                names = (answer.get(field) or []) if isinstance(answer, dict) else None
                if not isinstance(names, list):
                    raise RegistryError(
                        f"{self.where}: the registry's list of {field} is not valid", hint=answers.DISTRUST
                    )
                url = answers.next_page(url, response.links.get("next", {}).get("url") if names else None, self.where)
            listed += [name for name in names if isinstance(name, str) and _LISTED[field].fullmatch(name)]
        raise RegistryError(f"{self.where}: the list has more than {answers.MAX_PAGES} pages", hint=answers.DISTRUST)

    def manifest_url(self, name: str) -> str:
        """Return the address of the manifest of a tag or digest."""
        return f"{self.prefix}://{self.container.manifest_url(name)}"

    def _log_in(self, challenge: str) -> bool:
        """Prepare the session for a challenge; return False if there is nothing new to try. Raises AccessError."""
        asked = oci_auth.challenges(challenge)
        if self._credentials is None:
            self._credentials = oci_auth.find_credentials(self.host)
        if "bearer" in asked:  # also after an earlier token, which may have expired
            token = oci_auth.fetch_token(self.session, asked["bearer"], self._scope, self._credentials, self.host)
            value = f"Bearer {token}"
        elif "basic" in asked and self._credentials is not None and not self._basic:
            self._basic, value = True, self._credentials.basic
        else:
            return False
        self.session.auth = oci_auth.OriginAuth(self._origin, value)
        return True

    def _is_own(self, response: requests.Response) -> bool:
        """Return whether the registry itself answers, and not another server to which it redirected.

        Only the registry may ask for a login: another server would name itself as the one that takes the password.
        """
        return answers.origin(response.url) == answers.origin(self._origin)

    def _fault(self, response: requests.Response) -> LottapackError:
        status, (code, told) = response.status_code, _told(response, self.where)
        if status in (401, 403) and not self._is_own(response):
            other = answers.printable(answers.origin(response.url)[1], 100)
            hint = "Try again. If it happens again, report it to the registry's operator."
            return AccessError(
                f"{self.where}: {other}, to which the registry redirects, refused with status {status}", hint=hint
            )
        if status in (401, 403):
            return oci_auth.denied(self.host, self._credentials)
        if 300 <= status < 400:
            hint = "Check the address. A proxy or a page that asks for a login may answer instead of the registry."
            return RegistryError(f"{self.where}: the answer is a redirect without effect (status {status})", hint=hint)
        if status == 404:
            hint = "Check the name and the tag. List the tags of a repository with lottapack log."
            return NotFoundError(f"{self.where}: the repository, tag or blob does not exist{told}", hint=hint)
        if status >= 500 or status == 429:
            return NetworkError(
                f"{self.where}: the registry failed with status {status}{told}", hint="Try again later."
            )
        if code == "DIGEST_INVALID":
            problem = Problem("sha256", str(response.request.url).rpartition("digest=")[2], "other bytes arrived")
            return IntegrityError(self.where, [problem], hint="The file was changed while it was sent. Push it again.")
        hint = "The registry's message, if any, says what to change."
        return RegistryError(f"{self.where}: the registry refused with status {status}{told}", hint=hint)


def _container(host: str | None, repository: str) -> Container:
    """Return the oras client's record of a repository; its own parser misreads ``localhost/a`` and ``a.b/c``."""
    container = Container("unnamed", registry=host)
    container.namespace, _, container.repository = repository.rpartition("/")
    return container


def _told(response: requests.Response, where: str) -> tuple[str, str]:
    """Return the code and the message of an OCI error, or empty texts."""
    try:
        error = msgspec.json.decode(oci_transport.content(response, _MAX_ERROR, where))["errors"][0]
        code, message = str(error["code"]), str(error.get("message", ""))
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError, ValueError, RecursionError, RegistryError):
        return "", ""
    except requests.exceptions.RequestException:
        return "", ""
    return code, f" ({answers.printable(f'{code}: {message}', 200)})"


def _innermost(fault: BaseException) -> str:
    """Return the message of the innermost error, below the libraries' own."""
    while fault.__context__ is not None:
        fault = fault.__context__
    return str(fault) or type(fault).__name__
