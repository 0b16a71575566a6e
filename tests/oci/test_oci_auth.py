"""Logging in: where passwords and tokens come from, and who never gets them."""

import base64
import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from oci_proxy import Proxy
from oci_registries import PASSWORD, USER, certify, running

import lottapack as packs
from lottapack.errors import AccessError, NetworkError, RegistryError
from lottapack.registry import oci_auth
from lottapack.registry.oci_client import Client
from lottapack.registry.oci_transport import is_loopback
from lottapack.registry.references import OciReference
from lottapack_cli.app import main


@pytest.fixture
def docker(tmp_path):
    """Writes a docker configuration."""

    def write(**config):
        folder = tmp_path / "docker"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))

    return write


def entry(user=USER, password=PASSWORD):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def helper(folder, monkeypatch, body):
    """Put a credential helper ``docker-credential-ours`` first in the PATH."""
    program = folder / "docker-credential-ours"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_password_from_the_docker_configuration(locked_registry, pack, docker):
    reference = f"oci://{locked_registry.host}/locked:v1"
    docker(auths={locked_registry.host: entry()})
    packs.push(pack, reference)
    assert packs.pull(reference).path.read_bytes() == pack.read_bytes()
    assert [listed.reference for listed in packs.list_packs(f"oci://{locked_registry.host}")] == [reference]


def test_a_password_from_the_environment_goes_first(locked_registry, pack, docker, monkeypatch):
    reference = f"oci://{locked_registry.host}/locked:v1"
    docker(auths={locked_registry.host: entry(password="wrong")})
    monkeypatch.setenv("ORAS_USER", USER)
    monkeypatch.setenv("ORAS_PASS", PASSWORD)
    packs.push(pack, reference)


@pytest.mark.parametrize("field", ["credsStore", "credHelpers"])
def test_a_password_from_a_credential_helper(locked_registry, pack, docker, tmp_path, monkeypatch, field):
    answer = json.dumps({"ServerURL": locked_registry.host, "Username": USER, "Secret": PASSWORD})
    helper(tmp_path, monkeypatch, f"read host\n[ \"$host\" = {locked_registry.host} ] && echo '{answer}'")
    own = {field: "ours" if field == "credsStore" else {locked_registry.host: "ours"}}
    docker(auths={locked_registry.host: {}}, **own)
    packs.push(pack, f"oci://{locked_registry.host}/locked:v1")


def test_a_push_with_a_password_sends_the_pack_once(locked_registry, big_pack, docker):
    proxy = Proxy(locked_registry.host)
    docker(auths={proxy.host: entry()})
    try:
        packs.push(big_pack, f"oci://{proxy.host}/locked:v1")
    finally:
        proxy.stop()
    assert proxy.up < 1.01 * big_pack.stat().st_size


def test_without_or_with_a_wrong_password(locked_registry, pack, docker, monkeypatch, capsys):
    reference = f"oci://{locked_registry.host}/locked:v1"
    started = time.monotonic()
    for action in (
        lambda: packs.pull(reference),
        lambda: packs.push(pack, reference),
        lambda: packs.history(reference),
    ):
        with pytest.raises(AccessError, match="requires a login") as caught:
            action()
        assert f"docker login {locked_registry.host}" in caught.value.hint
    docker(auths={locked_registry.host: entry(password="wrong")})
    with pytest.raises(AccessError, match=f"does not allow this to '{USER}'"):
        packs.pull(reference)
    with pytest.raises(AccessError):
        packs.push(pack, reference)
    assert main(["pull", reference]) == 3
    assert "docker login" in capsys.readouterr().err
    assert locked_registry.tags("locked") == []
    assert time.monotonic() - started < 120  # the oras client would retry for 131 seconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting"),
        ("[]", "not a JSON object"),
        ('{"auths": {"HOST": {"auth": "%%%"}}}', "not base64"),
        ('{"auths": {"HOST": {"auth": "bm8="}}}', "does not have the form user:password"),
    ],
)
def test_a_docker_configuration_that_cannot_be_read(locked_registry, tmp_path, docker, text, why):
    docker()
    path = tmp_path / "docker" / "config.json"
    path.write_text(text.replace("HOST", locked_registry.host))
    with pytest.raises(AccessError, match=why) as caught:
        packs.pull(f"oci://{locked_registry.host}/locked:v1")
    assert str(path) in caught.value.message


@pytest.mark.parametrize("body", ["echo nothing", "echo '{}'", "echo '[]'"])
def test_a_credential_helper_that_answers_nonsense(docker, tmp_path, monkeypatch, body):
    helper(tmp_path, monkeypatch, body)
    docker(credsStore="ours")
    with pytest.raises(AccessError, match="did not return a Username and Secret"):
        oci_auth.find_credentials("registry.example")


def test_credential_helpers_that_are_missing_or_know_nothing(docker, tmp_path, monkeypatch):
    docker(credsStore="lottapack-is-not-there")
    with pytest.raises(AccessError, match="docker-credential-lottapack-is-not-there"):
        oci_auth.find_credentials("registry.example")
    helper(tmp_path, monkeypatch, "exit 1")
    docker(credsStore="ours")
    assert oci_auth.find_credentials("registry.example") is None


def test_identity_tokens_are_refused_in_words(docker, tmp_path, monkeypatch):
    docker(auths={"registry.example": {**entry("00000000", ""), "identitytoken": "eyJ"}})
    with pytest.raises(AccessError, match="identity token"):
        oci_auth.find_credentials("registry.example")
    helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "eyJ"}'""")
    docker(credsStore="ours")
    with pytest.raises(AccessError, match="identity token"):
        oci_auth.find_credentials("registry.example")


def test_docker_hub_is_found_under_its_old_name(docker):
    docker(auths={"https://index.docker.io/v1/": entry()})
    assert oci_auth.find_credentials("docker.io") == oci_auth.Credentials(USER, PASSWORD)
    assert oci_auth.find_credentials("index.docker.io") is None
    with Client(OciReference("docker.io", "someone/model"), "pull") as client:
        assert client.manifest_url("v1") == "https://registry-1.docker.io/v2/someone/model/manifests/v1"


def test_tokens_of_the_scope_that_is_needed(token_registry, tokens, pack, docker):
    reference = f"oci://{token_registry.host}/with/tokens:v1"
    docker(auths={token_registry.host: entry()})
    packs.push(pack, reference)
    assert tokens.given == [(USER, "repository:with/tokens:pull,push")]
    tokens.given.clear()
    docker(auths={token_registry.host: entry("reader")})
    assert packs.pull(reference).path.read_bytes() == pack.read_bytes()
    assert tokens.given == [("reader", "repository:with/tokens:pull")]


def test_a_reader_cannot_push(token_registry, tokens, pack, docker):
    docker(auths={token_registry.host: entry("reader")})
    with pytest.raises(AccessError, match="does not allow this to 'reader'"):
        packs.push(pack, f"oci://{token_registry.host}/with/tokens:v1")
    assert token_registry.tags("with/tokens") == []


def test_a_wrong_password_gets_no_token_and_nobody_one_that_allows_nothing(token_registry, tokens, pack, docker):
    reference = f"oci://{token_registry.host}/with/tokens:v1"
    with pytest.raises(AccessError, match="requires a login"):
        packs.pull(reference)
    assert tokens.given == [("", "repository:with/tokens:pull")]
    docker(auths={token_registry.host: entry(password="wrong")})
    with pytest.raises(AccessError, match=f"does not allow this to '{USER}'"):
        packs.pull(reference)


def test_anyone_may_pull_where_the_token_server_says_so(token_registry, tokens, pack, docker, tmp_path):
    reference = f"oci://{token_registry.host}/with/tokens:v1"
    docker(auths={token_registry.host: entry()})
    packs.push(pack, reference)
    (tmp_path / "docker" / "config.json").unlink()
    tokens.rights = {**tokens.rights, "": ("pull",)}
    assert packs.pull(reference).path.read_bytes() == pack.read_bytes()


def test_a_token_that_expires_is_replaced(token_registry, tokens, pack, docker):
    docker(auths={token_registry.host: entry()})
    packs.push(pack, f"oci://{token_registry.host}/with/tokens:v1")
    tokens.given.clear()
    tokens.lifetime = 2
    with Client(OciReference(token_registry.host, "with/tokens"), "pull") as client:
        assert client.tags() == ["v1"]
        assert client.tags() == ["v1"]
        assert len(tokens.given) == 1
        time.sleep(3)
        assert client.tags() == ["v1"]
        assert len(tokens.given) == 2


def test_other_hosts_are_spoken_to_with_encryption(tmp_path, pack, monkeypatch):
    """Give the registry a foreign name that resolves to this machine."""
    key, certificate = certify(tmp_path, "registry.test")
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *rest, **options: look_up("127.0.0.1" if host == "registry.test" else host, *rest, **options),
    )
    with running(tmp_path, tls={"key": str(key), "certificate": str(certificate)}) as registry:
        reference = f"oci://registry.test:{registry.host.rpartition(':')[2]}/a/model:v1"
        with pytest.raises(NetworkError, match="certificate verify failed"):
            packs.push(pack, reference)
        assert registry.tags("a/model") == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        sent = packs.push(pack, reference)
        assert sent.url.startswith("https://registry.test:")
        assert packs.pull(reference).path.read_bytes() == pack.read_bytes()


@contextmanager
def server(answer):
    """An HTTP server on loopback; ``answer(handler)`` answers, and its ``asked`` holds path and headers."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            status, headers = answer(self)
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{found.server_port}", asked
    finally:
        found.shutdown()
        found.server_close()
        thread.join(10)


def test_a_password_does_not_follow_a_redirection(docker):
    with (
        server(lambda _: (404, {})) as (other, asked),
        server(
            lambda handler: (
                (307, {"Location": f"http://{other}/blob"})
                if "Authorization" in handler.headers
                else (401, {"WWW-Authenticate": 'Basic realm="x"'})
            )
        ) as (host, asked_first),
    ):
        docker(auths={host: entry(), other: entry()})
        with pytest.raises(RegistryError):
            packs.pull(f"oci://{host}/some/model:v1")
    assert len(asked_first) == 2
    assert len(asked) == 1
    assert "Authorization" not in asked[0][1]


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        ('Bearer realm="http://tokens.example/token",service="x"', "without encryption"),
        ('Bearer realm="tokens.example",service="x"', "does not name a server"),
        ('Bearer service="x"', "does not name a server"),
    ],
)
def test_a_token_server_that_is_not_trusted(docker, challenge, why):
    with server(lambda _: (401, {"WWW-Authenticate": challenge})) as (host, _):
        docker(auths={host: entry()})
        with pytest.raises(RegistryError, match=why):
            packs.pull(f"oci://{host}/some/model:v1")


def test_a_redirection_to_plain_http_elsewhere_is_not_followed():
    with (
        server(lambda _: (307, {"Location": "http://registry.example/v2/"})) as (host, _),
        pytest.raises(RegistryError, match=r"leads to registry\.example without encryption"),
    ):
        packs.pull(f"oci://{host}/some/model:v1")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_fails_is_the_network_s_fault(status):
    with server(lambda _: (status, {})) as (host, asked), pytest.raises(NetworkError, match=f"status {status}"):
        packs.pull(f"oci://{host}/some/model:v1")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1:5055", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("[::1]:5055", True),
        ("127.1.2.3", True),
        ("registry.example", False),
        ("registry.example:80", False),
        ("10.0.0.1:5055", False),
        ("localhost.example", False),
    ],
)
def test_only_this_machine_is_spoken_to_without_encryption(host, plain):
    with Client(OciReference(host, "a/b"), "pull") as client:
        scheme = "http" if plain else "https"
        assert client.manifest_url("v1") == f"{scheme}://{host.lower()}/v2/a/b/manifests/v1"
    assert not is_loopback(None)


@pytest.mark.parametrize("repository", ["b", "a.b/c", "a/b/c"])
def test_addresses_are_what_the_reference_says(repository):
    with Client(OciReference("localhost", repository), "pull") as client:
        assert client.manifest_url("v1") == f"http://localhost/v2/{repository}/manifests/v1"
