"""Registries that answer as a script says, without a socket: what a client makes of each answer, and of each change.

A script is JSON: for each question ``{"status": .., "headers": {..}, "json": ..}``; with ``"text"`` instead of
``"json"`` for what is no JSON, or ``"pack"`` for a pack's own bytes.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import unquote

import huggingface_hub
import requests
import urllib3
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http
from mutation import places

from lottapack.errors import LottapackError
from lottapack.pushing import hub as hub_push
from lottapack.pushing import oci as oci_push
from lottapack.registry import downloading, hub, hub_http, hub_pull, oci, oci_manifest, oci_transport
from lottapack.registry.integrity import sha256_of
from lottapack.registry.oci_manifest import Image
from lottapack.registry.records import PushOptions
from lottapack.registry.references import HubReference, OciReference, Owner
from lottapack.reports.inspection import inspect

VALID = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"
PACK = VALID / "minimal.lotta.safetensors"
OTHER = VALID / "every_role.lotta.safetensors"
"""What the registry has, and what is pushed."""
CONTENT = PACK.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CARD = b"---\nlicense: mit\n---\n"
COMMIT, OLDER = "a" * 40, "b" * 40
NAME = "a.lotta.safetensors"
ENDPOINT = "http://hub.test"
HOST = "127.0.0.1:9"
CANARY = "canary"

_library: Any = sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]
Answer = tuple[int, list[tuple[str, str]], bytes]
Script = Any


@functools.cache
def _pushed_card() -> bytes:
    """The card that a push of the other pack makes of the one that is there."""
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(shutil.copy(OTHER, Path(folder, NAME)))
        return hub_push._card(pack, "o/m", hashlib.sha256(pack.read_bytes()).hexdigest(), _push_options(), CARD)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def hub_script() -> Script:
    """A Hub that has a pack with a signature and a card, and takes another."""
    json_type = {"Content-Type": "application/json"}
    lfs = {"sha256": SHA256, "size": len(CONTENT)}
    siblings = [
        {"rfilename": NAME, "size": len(CONTENT), "blobId": OLDER, "lfs": lfs},
        {"rfilename": "README.md", "size": len(CARD), "blobId": _git_id(CARD)},
    ]
    info = {"id": "o/m", "sha": COMMIT, "private": False, "siblings": siblings}
    model = {"id": "o/m", "siblings": siblings, "lastModified": "2026-01-01T00:00:00.000Z", "private": False}
    ref = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
    tag = {"name": "v1", "ref": "refs/tags/v1", "targetCommit": OLDER}
    commit = {"id": COMMIT, "title": "t", "message": "", "authors": [{"user": "u"}], "date": "2026-01-01T00:00:00.000Z"}
    action = {"href": f"{ENDPOINT}/upload", "header": {}}
    other = OTHER.read_bytes()
    oid = hashlib.sha256(other).hexdigest()
    objects = [{"oid": oid, "size": len(other), "actions": {"upload": action, "verify": action}}]
    modes = {NAME: "lfs", "README.md": "regular"}
    preupload = {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]}
    pushed = _pushed_card()
    after = [
        {"rfilename": NAME, "size": len(other), "blobId": OLDER, "lfs": {"sha256": oid, "size": len(other)}},
        {"rfilename": "README.md", "size": len(pushed), "blobId": _git_id(pushed)},
    ]
    answers = {
        "made": {"id": "o/m", "sha": OLDER, "private": False, "siblings": after},
        "list": [model],
        "info": info,
        "refs": {"branches": [ref], "tags": [], "converts": []},
        "tagged": {"branches": [ref], "tags": [tag], "converts": []},
        "commits": [commit],
        "create": {"url": f"{ENDPOINT}/o/m", "id": "o/m"},
        "branch": None,
        "tag": None,
        "yaml": {"errors": [], "warnings": []},
        "preupload": preupload,
        "batch": {"transfer": "basic", "objects": objects},
        "commit": {"success": True, "commitOid": OLDER, "commitUrl": f"{ENDPOINT}/o/m/commit/{OLDER}"},
        "upload": {},
        "agent": {"standardEnvVars": [], "harnesses": {}},
    }
    script = {name: {"status": 200, "headers": dict(json_type), "json": found} for name, found in answers.items()}
    headers = {"ETag": f'"{SHA256}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(CONTENT))}
    script["file"] = {"status": 200, "headers": headers, "pack": 0}
    script["card"] = {"status": 200, "headers": {"ETag": f'"{_git_id(CARD)}"'}, "text": CARD.decode()}
    return script


def oci_script() -> Script:
    """An OCI registry that has a pack, wants a token, and takes another."""
    layer = oci_manifest.Blob(
        oci_manifest.PACK_TYPE, f"sha256:{SHA256}", len(CONTENT), {"org.opencontainers.image.title": NAME}
    )
    manifest = json.loads(oci_push.manifest_of(inspect(PACK), Image(layer), None))
    kind = {"Content-Type": oci_manifest.MANIFEST_TYPE}
    challenge = f'Bearer realm="http://{HOST}/token",service="s",scope="x"'
    return {
        "challenge": {"status": 401, "headers": {"WWW-Authenticate": challenge}, "text": ""},
        "token": {"status": 200, "headers": {}, "json": {"token": "T", "access_token": "T"}},
        "manifest": {"status": 200, "headers": kind, "json": manifest},
        "blob": {"status": 200, "headers": {"Content-Length": str(len(CONTENT))}, "pack": 0},
        "tags": {"status": 200, "headers": {}, "json": {"name": "o/m", "tags": ["v1"]}},
        "catalog": {"status": 200, "headers": {}, "json": {"repositories": ["o/m"]}},
        "has": {"status": 404, "headers": {}, "text": ""},
        "start": {"status": 202, "headers": {"Location": "/v2/o/m/blobs/uploads/1"}, "text": ""},
        "upload": {"status": 201, "headers": {}, "text": ""},
        "put": {"status": 201, "headers": {}, "text": ""},
        "stored": {"status": 200, "headers": {}, "text": ""},
        "error": {"status": 404, "headers": {}, "json": {"errors": [{"code": "X", "message": "m"}]}},
    }


def hub_question(method: str, path: str) -> str:
    """Which answer of a Hub's script a request gets."""
    if "/resolve/" in path:
        return "card" if path.endswith("README.md") else "file"
    patterns = {
        "agent": "agent-harnesses", "yaml": "validate-yaml", "create": "repos/create", "preupload": "/preupload/",
        "batch": "/objects/batch", "upload": "/upload", "refs": "/refs", "commits": "/commits/", "commit": "/commit/",
        "branch": "/branch/", "tag": "/tag/",
        "made": f"/revision/{OLDER}", "info": r"/api/models/[^/?]+/[^/?]+", "list": "/api/models",
    }  # fmt: skip
    return next((name for name, pattern in patterns.items() if re.search(pattern, path)), "info")


def oci_question(method: str, path: str, signed: bool) -> str:
    """Which answer of an OCI registry's script a request gets."""
    if path.startswith("/token"):
        return "token"
    if not signed:
        return "challenge"
    for name, pattern in {"catalog": "/_catalog", "tags": "/tags/list"}.items():
        if pattern in path:
            return name
    if "/manifests/" in path:
        return {"PUT": "put", "HEAD": "has"}.get(method, "manifest")
    if "/blobs/" in path:
        return {"POST": "start", "PUT": "upload", "HEAD": "has"}.get(method, "blob")
    return "error"


def answer(script: Script, question: str) -> Answer:
    """What a script says to a question, as far as that can be said over HTTP at all."""
    found = script.get(question) if isinstance(script, dict) else None
    found = found if isinstance(found, dict) else {}
    status = found.get("status")
    headers = found.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else ()
    if "pack" in found:
        body = CONTENT[found["pack"] if isinstance(found["pack"], int) else 0 :]
    elif "text" in found:
        body = str(found["text"]).encode("utf-8", "surrogatepass")
    else:
        body = json.dumps(found.get("json")).encode("utf-8", "surrogatepass")
    plain = [(_token(str(name)), str(value).encode("utf-8", "replace").decode("latin-1")) for name, value in pairs]
    usable = [(name, re.sub(r"[\r\n\0]", " ", value).strip()) for name, value in plain if name]
    return status if type(status) is int and 200 <= status <= 599 else 200, usable, body


def _token(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "", name)


@contextmanager
def scripted_hub(script: Script, folder: Path) -> Iterator[None]:
    """Lead huggingface_hub to the script, with a cache in ``folder``."""

    asked: list[str] = []

    def handle(request: Any) -> Any:
        path = unquote(request.url.raw_path.decode("latin-1"))
        asked.append(hub_question(request.method, path))
        question = "tagged" if asked[-1] == "refs" and "tag" in asked else asked[-1]
        status, headers, body = answer(script, question)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        return _library.Response(status, headers=raw, content=iter([body]))

    def factory() -> Any:
        hooks = {"request": [_http.hf_request_event_hook]}
        return _library.Client(transport=_library.MockTransport(handle), event_hooks=hooks, follow_redirects=True)

    quiet = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    with contextlib.ExitStack() as stack:
        for where, name, value in (
            (constants, "ENDPOINT", ENDPOINT), (constants, "HF_HUB_OFFLINE", False),
            (constants, "HF_HUB_CACHE", str(folder / "hub")), (constants, "HF_TOKEN_PATH", str(folder / "token")),
            (constants, "HF_HUB_DISABLE_XET", True), (constants, "HF_HUB_DISABLE_PROGRESS_BARS", True),
            (_http, "time", quiet), (hub_http, "time", quiet), (downloading, "time", quiet),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(where, name, value))
        if hasattr(constants, "AGENT_HARNESSES_PATH"):
            stack.enter_context(mock.patch.object(constants, "AGENT_HARNESSES_PATH", str(folder / "agents.json")))
        stack.enter_context(mock.patch.dict(os.environ, {"HF_TOKEN": "hf_secret"}))
        huggingface_hub.set_client_factory(factory)
        try:
            yield
        finally:
            huggingface_hub.set_client_factory(_http.default_client_factory)


@contextmanager
def scripted_oci(script: Script, folder: Path) -> Iterator[None]:
    """Lead requests of the OCI client to the script, with a cache in ``folder``."""

    asked: list[str] = []

    def send(self: object, request: requests.PreparedRequest, **options: object) -> requests.Response:
        if hasattr(request.body, "__iter__") and not isinstance(request.body, (bytes, str)):
            for _ in request.body or ():
                pass
        signed = "Authorization" in request.headers
        asked.append(oci_question(str(request.method), str(request.path_url), signed))
        question = "stored" if asked[-1] == "has" and "put" in asked else asked[-1]
        status, headers, body = answer(script, question)
        body = b"" if request.method == "HEAD" else body
        raw = urllib3.HTTPResponse(
            io.BytesIO(body), headers=urllib3.HTTPHeaderDict(headers), status=status, preload_content=False,
            decode_content=False,
        )  # fmt: skip
        return requests.adapters.HTTPAdapter().build_response(request, raw)

    quiet = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    environment = {
        "LOTTAPACK_CACHE": str(folder / "cache"),
        "DOCKER_CONFIG": str(folder),
        "ORAS_USER": "",
        "ORAS_PASS": "",
    }
    with (
        mock.patch.object(oci_transport.HTTPAdapter, "send", send),
        mock.patch.object(downloading, "time", quiet),
        mock.patch.dict(os.environ, environment),
    ):
        yield


def _push_options() -> PushOptions:
    return PushOptions(tag="v1", license="mit")


def hub_calls(pack: Path) -> dict[str, Callable[[], object]]:
    """What a user does at a Hub."""
    reference = HubReference("o/m")
    return {
        "pull": lambda: hub_pull.pull(reference, None),
        "pull by commit": lambda: hub_pull.pull(HubReference("o/m", COMMIT), None),
        "list": lambda: hub.list_packs(Owner("o")),
        "log": lambda: hub.log(reference),
        "push": lambda: hub_push.push(pack, sha256_of(pack), reference, _push_options(), None),
    }


def oci_calls(pack: Path) -> dict[str, Callable[[], object]]:
    """What a user does at an OCI registry."""
    reference = OciReference(HOST, "o/m", "v1")
    return {
        "pull": lambda: oci.pull(reference, None),
        "list": lambda: oci.list_packs(Owner("", HOST)),
        "log": lambda: oci.log(OciReference(HOST, "o/m")),
        "push": lambda: oci_push.push(pack, sha256_of(pack), OciReference(HOST, "o/m"), _push_options(), None),
    }


Scripted = Callable[[Script, Path], contextlib.AbstractContextManager[None]]
Calls = Callable[[Path], Mapping[str, Callable[[], object]]]
KINDS: dict[str, tuple[Callable[[], Script], Scripted, Calls]] = {
    "hub": (hub_script, scripted_hub, hub_calls),
    "oci": (oci_script, scripted_oci, oci_calls),
}


def run(kind: str, script: Script) -> dict[str, object]:
    """Do everything at a registry that answers so; what came of each call: a result, or an error of the tree.

    Raises whatever else comes out, and AssertionError if anything was written or removed outside the cache.
    """
    _, scripted, calls = KINDS[kind]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="lottapack-script-") as name:
        base = Path(name)
        pack, folder = base / "mine" / NAME, base / "home" / "cache"
        pack.parent.mkdir()
        folder.mkdir(parents=True)
        shutil.copy(OTHER, pack)
        (base / CANARY).write_text(CANARY)
        before = _outside(base, folder)
        found: dict[str, object] = {}
        with scripted(script, folder):
            for what, call in calls(pack).items():
                try:
                    found[what] = call()
                except LottapackError as error:
                    if not str(error):
                        raise AssertionError("an error without words") from error
                    found[what] = error
        assert _outside(base, folder) == before
        return found


def _outside(base: Path, folder: Path) -> dict[str, bytes]:
    files = [path for path in base.rglob("*") if path.is_file() and not path.is_relative_to(folder)]
    return {str(path): path.read_bytes() for path in files}


SECONDS = 20.0
"""Of processor time for all calls of one script; more is a hang."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 5, 2**31, 2**53, 2**63, 2**64, 10**30, 1.5, 1e308, "", "a", "../../../../canary",
    "/etc/passwd", "..", ".", "a/../../b.lotta.safetensors", "C:\\x.lotta.safetensors", "CON.lotta.safetensors",
    "a\x1b[31m", "\ud800", "a" * 300, "\u202e", "é", [], {}, [[]], [None], {"a": 1}, "0" * 40, "0" * 64, "f" * 64,
    "sha256:" + "0" * 64, "yesterday", "2026-13-45T00:00:00Z", "http://[::1", "file:///etc/passwd", "gopher://a/",
    "//other.test/x", "http://127.0.0.1:99999/", "https://other.test/x", '<http://[::1>; rel="next"',
    '</x>; rel="next"', '<http://other.test/x>; rel="next"', "gzip", "br", "identity", "bytes 0-1/2",
    "bytes 5-639/640", "bytes */5", "abc", "-1", "1e3", "640, 640", "9" * 5000, "99999999", "2",
    '"api";r=0;t=99999999', 'Bearer realm="http://[::1"', "Bearer", "Basic", "Bearer realm=\"file:///x\"", "ÿ",
    "chunked", "RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo", "lfs", "regular", "multipart", "xet",
    200, 204, 206, 301, 304, 307, 400, 401, 403, 404, 409, 412, 416, 429, 500, 503,
)  # fmt: skip
"""What a hostile or broken server may say in any place."""
HEADERS = (
    "Content-Length", "Content-Encoding", "Content-Range", "Location", "Link", "Retry-After", "RateLimit", "ETag",
    "X-Linked-ETag", "X-Linked-Size", "X-Repo-Commit", "X-Error-Code", "X-Error-Message", "Docker-Content-Digest",
    "WWW-Authenticate", "Transfer-Encoding", "Content-Type", "Set-Cookie", "Accept-Ranges",
)  # fmt: skip


def changed(script: Script, draw: random.Random) -> Script:
    """A script with one to three changes: of a value, a name, a header, a status, or the form of a content."""
    made = json.loads(json.dumps(script))
    for _ in range(draw.choice((1, 1, 2, 3))):
        known = places(made)
        if not known:
            return made
        container, key = draw.choice(known)
        kind = draw.randrange(8)
        replies = [value for value in made.values() if isinstance(value, dict)] if isinstance(made, dict) else []
        if kind < 3:
            container[key] = draw.choice(VALUES)
        elif kind == 3:
            del container[key]
        elif kind == 4 and isinstance(container, dict):
            container[str(draw.choice(VALUES))] = container.pop(key)
        elif kind == 5 and replies:
            draw.choice(replies)["status"] = draw.choice([value for value in VALUES if type(value) is int])
        elif kind == 6 and replies:
            reply = draw.choice(replies)
            reply["headers"] = {**_dict(reply.get("headers")), draw.choice(HEADERS): draw.choice(VALUES)}
        elif replies:
            reply = draw.choice(replies)
            texts = (
                "",
                "<html>",
                "[" * 20_000,
                '{"a":' * 5000,
                "nul",
                '"\ud800"',
                "[" + "1," * 2000 + "1]",
                "{}",
                "[]",
            )
            reply.pop("pack", None)
            reply["text"] = draw.choice(texts)
    return made


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def one(kind: str, data: bytes) -> None:
    """Run the script that an input is, if it is one."""
    try:
        script = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(script, dict):
        return
    begin = time.process_time()
    run(kind, script)
    taken = time.process_time() - begin
    if taken > SECONDS:
        raise AssertionError(f"{taken:.1f} s")


def mutated(data: bytes, seed: int) -> bytes | None:
    """A script with changes, or None for what is no script."""
    try:
        script = json.loads(data)
        return json.dumps(changed(script, random.Random(seed))).encode() if isinstance(script, dict) else None
    except (ValueError, RecursionError):
        return None
