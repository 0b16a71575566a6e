"""Servers that break HTTP itself, of both kinds of registry: each ends in one error, in time, without the token."""

import contextlib
import hashlib
import itertools
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hub_runs import lead_to, make_pack
from huggingface_hub import constants

import lottapack
from lottapack.errors import AccessError, IntegrityError, LottapackError, NetworkError, RegistryError
from lottapack.registry import answers, downloading, hub_http

pytest.importorskip("oras")

NAME, COMMIT, TOKEN = "a.lotta.safetensors", "a" * 40, "hf_secret"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"


class Asked(NamedTuple):
    """A request: its path, and its headers by name in lower case."""

    path: str
    headers: dict[str, str]


Sent = tuple[bytes, bytes | list[bytes], float]
"""What is sent first, what is then sent again and again (or its pieces once), and the seconds between."""
Answer = Callable[[Asked], Sent]


class Server:
    """Sends the exact bytes that a test wants. ``answers``: what to send by a part of the path."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), client.makefile("rb") as lines:
            first = lines.readline().decode("latin-1").split()
            headers = {}
            while line := lines.readline().decode("latin-1").strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            asked = Asked(first[1], headers)
            self.asked.append(asked)
            answer = next((one for part, one in self.answers.items() if part in asked.path), None)
            begin, more, pause = answer(asked) if answer else (whole(b"", "404 Not Found"), b"", 0.0)
            client.sendall(begin)
            for piece in itertools.repeat(more) if isinstance(more, bytes) and more else more:
                if self.closed.is_set():
                    break
                client.sendall(piece)
                time.sleep(pause)

    def close(self) -> None:
        self.closed.set()
        self.socket.close()


def whole(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer with its length."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    ends = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return f"HTTP/1.1 {status}\r\n{lines}{ends}".encode("latin-1") + body


def said(begin: bytes, more: bytes = b"", pause: float = 0.0) -> Answer:
    return lambda _: (begin, more, pause)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    (tmp_path / "pack").mkdir()
    return make_pack(tmp_path / "pack" / NAME).read_bytes()


def manifest(content: bytes, **more: object) -> bytes:
    layer = {
        "mediaType": "application/vnd.lottapack.pack.v1.safetensors", "size": len(content),
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "annotations": {"org.opencontainers.image.title": NAME},
    }  # fmt: skip
    media_type = "application/vnd.oci.image.manifest.v1+json"
    record = {"schemaVersion": 2, "mediaType": media_type, "artifactType": "application/vnd.lottapack.pack.v1"}
    return json.dumps({**record, "layers": [layer], **more}).encode()


@pytest.fixture
def serve(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Answer | None], tuple[Server, str]]]:
    """Start a server with one odd answer: to ``info`` or ``file`` of a Hub, or ``manifest`` or ``blob`` of OCI."""
    started = []

    def start(place: str, answer: Answer | None) -> tuple[Server, str]:
        sha256 = hashlib.sha256(content).hexdigest()
        file = {"rfilename": NAME, "size": 1, "lfs": {"sha256": sha256, "size": len(content)}}
        info = json.dumps({"id": "o/m", "sha": COMMIT, "siblings": [file]}).encode()
        parts = {"info": "/api/models/", "file": "/resolve/", "manifest": "/manifests/", "blob": "/blobs/"}
        plain = {"info": info, "file": content, "manifest": manifest(content), "blob": content}
        table = {parts[one]: said(whole(body)) for one, body in plain.items()}
        server = Server(table if answer is None else table | {parts[place]: answer})
        started.append(server)
        lead_to(monkeypatch, f"http://127.0.0.1:{server.port}", tmp_path / "home")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("LOTTAPACK_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        return server, "o/m" if place in ("info", "file") else f"oci://127.0.0.1:{server.port}/o/m:v1"

    monkeypatch.setattr(downloading, "WAITS", ())
    yield start
    for server in started:
        server.close()


PLACES = ("info", "file", "manifest", "blob")
WITHOUT_END = {
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.2),
    "status": (b"HTTP/1.1 20", b" ", 0.2),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2),
    "interim flood": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000, 0.0),
    "chunk": (CHUNKED + b"1;", b"a", 0.2),
    "trailers": (CHUNKED + b"1\r\n{\r\n0\r\n", b"X-A: b\r\n", 0.2),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WITHOUT_END)
def test_what_does_not_end_is_given_up(name, place, serve, monkeypatch):
    """Bytes keep arriving, so that a limit of the silence between them is not enough."""
    monkeypatch.setattr(answers, "ANSWER_SECONDS", 1)
    _, reference = serve(place, said(*WITHOUT_END[name]))
    begin = time.monotonic()
    with pytest.raises((NetworkError, RegistryError)) as caught:
        lottapack.pull(reference)
    assert time.monotonic() - begin < 300  # 1 to 2 s on a quiet machine; it would not end
    assert caught.value.hint


BROKEN = {
    "two lengths": JSON + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\n{}   ",
    "negative length": JSON + b"Content-Length: -3\r\n\r\n{}",
    "length of 5000 digits": JSON + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "coded twice": JSON + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "HTTP/0.9": b"<html>hello",
    "status 000": b"HTTP/1.1 000 x\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "nothing": b"",
    "NUL in a header": JSON + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a header of 1 MB": JSON + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "20,000 headers": JSON + b"X: a\r\n" * 20_000 + b"\r\n",
    "login page": whole(b"<html>Log in</html>", Content_Type="text/html"),
    "utf-16": whole("{}".encode("utf-16")),
    "redirect to a file": whole(b"", "302 Found", Location="file:///etc/passwd"),
    "redirect to data": whole(b"", "302 Found", Location="data:application/json,{}"),
    "redirect to a socket": whole(b"", "302 Found", Location="http+unix://%2Fvar%2Frun%2Fdocker.sock/x"),
    "redirect to port 99999": whole(b"", "302 Found", Location="http://127.0.0.1:99999/x"),
    "redirect to a long label": whole(b"", "302 Found", Location=f"http://{'a' * 300}.b/x"),
    "redirect to Latin-1": whole(b"", "302 Found", Location="http://\xff\xfe/"),
    "redirect of 50 kB": whole(b"", "302 Found", Location="ftp://x/" + "a" * 50_000),
    "codings": whole(b"{}", Content_Encoding="gz\tip"),
    "deep error": whole(b'{"error":' + b"[" * 60_000 + b"]" * 60_000 + b"}", "400 Bad"),
    "page of an error": whole(b"<script>\x1b[31m</script>", "500 \x1b[31m"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_an_answer_is_one_error(name, place, serve, tmp_path):
    _, reference = serve(place, said(BROKEN[name]))
    with pytest.raises(LottapackError) as caught:
        lottapack.pull(reference)
    text = str(caught.value)
    assert caught.value.hint and len(text) < 2000
    assert all(character.isprintable() or character == "\n" for character in text)
    assert not [path for path in tmp_path.rglob(NAME) if path.parent.name != "pack"]


def parted(content: bytes, second: bytes, status: str = "206 Partial Content", **headers: str) -> Answer:
    """Return an answer that is cut after 1,000 bytes, and one with its rest."""

    def answer(asked: Asked) -> Sent:
        if "range" not in asked.headers:
            length = f'Content-Length: {len(content)}\r\nETag: "one"\r\n\r\n'.encode()
            return b"HTTP/1.1 200 OK\r\n" + length + content[:1000], b"", 0.0
        return whole(second, status, ETag='"two"', **headers), b"", 0.0

    return answer


@pytest.mark.parametrize("place", ["file", "blob"])
@pytest.mark.parametrize(
    ("status", "span", "change", "right"),
    [
        ("206", "bytes 1000-3251/3252", lambda rest: rest, True),
        ("206", "bytes 1000-3251/3252", lambda rest: b"\0" * len(rest), False),
        ("206", "bytes 1000-3251/3252", lambda rest: rest[:-5], False),
        ("206", "bytes 1000-3251/3252", lambda rest: rest + b"x", False),
        ("206", "bytes 1000-3251/3252", lambda rest: b"", False),
        ("206", "bytes 999-3251/3252", lambda rest: rest, False),
        ("206", f"bytes {'1' * 5000}-2/3", lambda rest: rest, False),
        ("206", "items 1000-3251/3252", lambda rest: rest, False),
        ("206", "", lambda rest: rest, False),
        ("200", "", lambda rest: rest, False),
        ("416", "bytes */5", lambda rest: b"", False),
    ],
)
def test_the_rest_of_another_file_is_not_taken(status, span, change, right, place, serve, content, monkeypatch):
    """The server's copy changes between two requests, or the server does not do what it says."""
    monkeypatch.setattr(downloading, "WAITS", (0.0,))
    headers = {"Content_Range": span} if span else {}
    _, reference = serve(place, parted(content, change(content[1000:]), status, **headers))
    if right:
        assert lottapack.pull(reference).path.read_bytes() == content
        return
    with pytest.raises(IntegrityError):
        lottapack.pull(reference)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("status", ["302 Found", "400 Bad", "401 No", "403 No", "500 No"])
def test_what_a_server_was_told_does_not_come_back_in_its_words(status, place, serve, monkeypatch):
    """An error goes into logs that others read. A server that repeats the token must not bring it there."""
    monkeypatch.setenv("ORAS_USER", "me")
    monkeypatch.setenv("ORAS_PASS", TOKEN)

    def echo(asked: Asked) -> Sent:
        told = asked.headers.get("authorization")
        if told is None:
            return whole(b"", "401 Unauthorized", WWW_Authenticate="Basic realm=x"), b"", 0.0
        secret = told.partition(" ")[2]
        record = {"error": f"no {told}", "errors": [{"code": secret, "message": f"no {told} {TOKEN}"}]}
        headers = {"X-Error-Message": f"no {told}", "Location": f"ftp://x/?{secret}"}
        return whole(json.dumps(record).encode(), f"{status} {secret}", **headers), b"", 0.0

    server, reference = serve(place, echo)
    with pytest.raises(LottapackError) as caught:
        lottapack.pull(reference)
    told = {asked.headers.get("authorization", "").partition(" ")[2] for asked in server.asked} - {""}
    assert told
    for secret in (*told, TOKEN):
        assert secret not in str(caught.value)


ODD_MANIFESTS = {
    "kind": {"artifactType": "\x1b[31mevil\u202e\n\x9b"},
    "long kind": {"artifactType": "x" * 3_000_000},
    "long kind of the config": {
        "artifactType": "", "config": {"mediaType": "y" * 3_000_000, "digest": "sha256:" + "0" * 64, "size": 2},
    },
    "long title": {"title": "x" * 3_000_000},
    "odd title": {"title": "\x1b[31m\u202e.lotta.safetensors"},
    "long digest": {"digest": "sha256:" + "z" * 3_000_000},
    "large size": {"size": 10**300},
    "long title of a signature": {"signature": "x" * 3_000_000},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_MANIFESTS)
def test_what_a_manifest_says_is_short_and_plain_in_messages(name, serve, content):
    fields = dict(ODD_MANIFESTS[name])
    record = json.loads(manifest(content))
    layer = record["layers"][0]
    if "title" in fields:
        layer["annotations"]["org.opencontainers.image.title"] = fields.pop("title")
    if "signature" in fields:
        annotations = {"org.opencontainers.image.title": fields.pop("signature")}
        kind = "application/vnd.lottapack.signature.v1"
        record["layers"].append({**layer, "mediaType": kind, "annotations": annotations})
    layer.update({key: fields.pop(key) for key in ("digest", "size") if key in fields})
    _, reference = serve("manifest", said(whole(json.dumps(record | fields).encode())))
    with pytest.raises(LottapackError) as caught:
        lottapack.pull(reference)
    text = str(caught.value)
    assert len(text) < 1000 and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert text.count("\n") == 1


def test_a_slow_file_is_fetched(serve, content, monkeypatch):
    """The time is that without anything of the file, not that of all of it."""
    monkeypatch.setattr(answers, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(hub_http, "_SILENCE", 5)
    pieces = [content[at : at + 800] for at in range(0, len(content), 800)]
    for place in ("file", "blob"):
        _, reference = serve(place, lambda _: (whole(content)[: -len(content)], pieces, 0.4))
        assert lottapack.pull(reference).path.read_bytes() == content


@pytest.mark.parametrize("token", ["\u20ac", "a\x1b[31m"])
def test_a_token_that_is_not_one_is_not_sent(token, serve, monkeypatch):
    server, reference = serve("info", None)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AccessError, match="characters that no token has"):
        lottapack.pull(reference)
    assert server.asked == []


def test_what_is_listed_can_be_pulled(serve, content, tmp_path):
    """Names of a list are asked for, so that none of them is another address of the server."""
    names = ["v1", "a/../../../v2/other/manifests/v1", "..", "-v", "x" * 129, "\x1b[31m", 5, None]
    server, _ = serve("manifest", None)
    server.answers["/tags/"] = said(whole(json.dumps({"tags": names}).encode()))
    found = lottapack.history(f"oci://127.0.0.1:{server.port}/o/m")
    assert [entry.names for entry in found] == [("v1",)]
    assert [asked.path.partition("?")[0] for asked in server.asked] == ["/v2/o/m/tags/list", "/v2/o/m/manifests/v1"]
    server.answers["_catalog"] = said(whole(json.dumps({"repositories": ["a/../b", "A", "/", "o/m"]}).encode()))
    [listed] = lottapack.list_packs(f"oci://127.0.0.1:{server.port}")
    assert lottapack.registry.parse(listed.reference).repository == "o/m"


def test_logs_do_not_repeat_the_token(serve, caplog):
    server, _ = serve("info", None)
    link = f'</api/models?author=o&cursor={TOKEN}>; rel="next"'
    server.answers = {"cursor": said(whole(b"[]")), "/api/models": said(whole(b"[]", Link=link))}
    with caplog.at_level("DEBUG", "lottapack"):
        assert lottapack.list_packs("o") == []
    assert TOKEN in server.asked[-1].path
    assert "asking" in caplog.text and TOKEN not in caplog.text


@pytest.mark.parametrize("place", ["info", "file"])
def test_the_clients_own_questions_are_not_asked(place, serve, content, tmp_path, monkeypatch):
    """Once a day the client asks for a list, and would take an answer of any length for any time."""
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents.json"), raising=False)
    if agents := sys.modules.get("huggingface_hub.utils._detect_agent"):
        monkeypatch.setattr(agents, "_registry", None)
    server, reference = serve(place, None)
    server.answers = {"agent-harnesses": said(CHUNKED + b"1;", b"a", 0.2)} | server.answers
    assert lottapack.pull(reference).path.read_bytes() == content
    assert {asked.path.split("/")[1] for asked in server.asked} == {"api", "o"}
    assert not any("agent" in asked.path for asked in server.asked)
    assert not constants.HF_HUB_DISABLE_TELEMETRY
