"""Registries that redirect, lose or hide something, and a cache that others change: over a registry in this process."""

import base64
import errno
import json
import logging
import os
from pathlib import Path

import pytest
import requests
from fake_registry import Fake, digest_of, fake

import lottapack as packs
from lottapack.errors import AccessError, NotFoundError, OutputError, RegistryError, SignatureError
from lottapack.registry import oci_auth, oci_cache, oci_client
from lottapack.registry.oci_auth import OriginAuth


@pytest.fixture
def registry():
    with fake() as found:
        yield found


@pytest.fixture
def pushed(registry, pack):
    """A registry with a pack."""
    packs.push(pack, registry.reference())
    registry.asked.clear()
    return registry


@pytest.fixture
def login(tmp_path):
    """Store a login for a host."""

    def write(host):
        (tmp_path / "docker").mkdir()
        entry = {"auth": base64.b64encode(b"me:a long password").decode()}
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {host: entry}}))

    return write


def on(method: str, part: str, *answer):
    return lambda asked, path, _: answer if asked == method and part in path else None


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_only_the_registry_itself_may_ask_for_a_login(scheme, method, pushed, pack, login):
    """A server to which it redirects would name itself as the one that takes the password."""
    login(pushed.host)
    with fake() as other:
        challenge = f'{scheme} realm="http://{other.host}/token",service="x"'
        other.odd = lambda _, path, __: (
            (200, b'{"token": "abcdefgh"}', {}) if "/token" in path else (401, b"", {"WWW-Authenticate": challenge})
        )
        away = {"Location": f"http://{other.host}/elsewhere"}
        pushed.odd = on("GET", "/blobs/", 307, b"", away) if method == "GET" else on("POST", "", 202, b"", away)
        if method == "PUT":
            pushed.lose(pack.read_bytes())
        with pytest.raises(AccessError, match=r"to which the registry redirects, refused with status 401"):
            packs.pull(pushed.reference()) if method == "GET" else packs.push(pack, pushed.reference())
        assert other.asked
        assert all(told is None and "/token" not in path for _, path, told in other.asked)


@pytest.mark.parametrize("schemes", [["Basic", "Bearer"], ["Bearer", "Basic"], ["bearer"], ["BASIC"]])
@pytest.mark.parametrize("known", [True, False])
def test_a_registry_may_offer_several_ways_to_log_in(schemes, known, pushed, pack, login):
    if known:
        login(pushed.host)
    basic = "Basic " + base64.b64encode(b"me:a long password").decode()
    ways = {"bearer": f'realm="http://{pushed.host}/token",service="x, y"', "basic": 'realm="a, b"'}
    offered = ", ".join(f"{scheme} {ways[scheme.lower()]}" for scheme in schemes)

    def asks(_, path, told):
        if path.startswith("/token"):
            return (200, b'{"token": "abcdefgh"}', {}) if told in (None, basic) else (401, b"", {})
        right = "Bearer abcdefgh" if any(scheme.lower() == "bearer" for scheme in schemes) else basic
        return None if told == right else (401, b"", {"WWW-Authenticate": offered})

    pushed.odd = asks
    if known or schemes != ["BASIC"]:
        assert packs.pull(pushed.reference()).path.read_bytes() == pack.read_bytes()
        return
    with pytest.raises(AccessError, match="requires a login"):
        packs.pull(pushed.reference())


@pytest.mark.parametrize("key", ["{}", "https://{}", "https://{}/", "https://{}/v2/", "{}/"])
@pytest.mark.parametrize("coded", [True, False])
def test_logins_as_docker_writes_them(key, coded, tmp_path):
    (tmp_path / "docker").mkdir()
    plain = {"username": "me", "password": "long enough"}
    entry = {"auth": base64.b64encode(b"me:long enough").decode()} if coded else plain
    auths = {key.format("r.example:5000"): entry, "r.example:5000/other/": {"auth": "bm86bm8="}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": auths}))
    assert oci_auth.find_credentials("r.example:5000") == oci_auth.Credentials("me", "long enough")
    assert oci_auth.find_credentials("r.example") is None


def test_messages_do_not_hold_the_password_of_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:99999")
    with pytest.raises(RegistryError, match="cannot send the request") as caught:
        packs.pull("oci://registry.example/o/m:v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
@pytest.mark.parametrize(("method", "part"), [("PUT", "/manifests/"), ("PUT", "/blobs/"), ("POST", "/blobs/")])
def test_a_redirect_is_no_success_of_a_push(method, part, status, registry, pack):
    """As of a proxy that leads everything without a session to its page for logging in."""
    registry.odd = on(method, part, status, b"", {"Location": "/login"})
    with pytest.raises(RegistryError, match=f"status {status}") as caught:
        packs.push(pack, registry.reference())
    assert caught.value.hint
    assert not registry.manifests


@pytest.mark.parametrize(("part", "named"), [("/blobs/", "lotta.safetensors"), ("/manifests/", "the manifest")])
def test_what_was_accepted_and_not_stored_is_no_success(part, named, registry, pack):
    registry.odd = lambda asked, path, _: (201, b"", {}) if asked == "PUT" and part in path else None
    with pytest.raises(RegistryError, match=f"does not have .*{named}.*, which it accepted"):
        packs.push(pack, registry.reference())


def test_all_that_a_registry_lost_of_two_manifests_comes_back(registry, pack):
    packs.push(pack, registry.reference(), modelpack=True)
    whole = dict(registry.blobs)
    assert len(whole) == 3  # the pack, and a configuration of each manifest
    for digest in whole:
        del registry.blobs[digest]
        packs.push(pack, registry.reference(), modelpack=True)
        assert registry.blobs == whole
    registry.odd = on("PUT", "-modelpack", 201, b"", {})
    registry.manifests.clear()
    with pytest.raises(RegistryError, match="does not have the manifest sha256:"):
        packs.push(pack, registry.reference(), modelpack=True)


@pytest.mark.parametrize("status", [300, 304])
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_a_redirect_to_nowhere_is_no_content(part, status, pushed):
    pushed.odd = on("GET", part, status, b"", {})
    with pytest.raises(RegistryError, match=f"status {status}"):
        packs.pull(pushed.reference())


def test_a_push_brings_back_what_the_registry_lost(pushed, pack):
    for content in (pack.read_bytes(), b"{}"):
        pushed.lose(content)
        would = packs.push(pack, pushed.reference(), dry_run=True)
        assert digest_of(content) not in pushed.blobs
        done = packs.push(pack, pushed.reference())
        assert would.sent == done.sent
        assert pushed.blobs[digest_of(content)] == content
    assert packs.pull(pushed.reference()).path.read_bytes() == pack.read_bytes()


@pytest.mark.parametrize(
    ("origin", "url", "own"),
    [
        ("https://r.example", "https://r.example:443/v2/", True),
        ("https://r.example:443", "https://r.example/v2/", True),
        ("https://r.example", "https://R.Example/v2/", True),
        ("https://r.example", "http://r.example/v2/", False),
        ("https://r.example", "https://r.example:444/v2/", False),
        ("https://r.example", "https://r.example.evil/v2/", False),
        ("https://r.example", "https://r.example@evil.example/v2/", False),
    ],
)
def test_an_origin_is_the_same_with_its_usual_port(origin, url, own):
    request = requests.Request("GET", url).prepare()
    assert ("Authorization" in OriginAuth(origin, "Bearer abcdefgh")(request).headers) is own


def with_signature(pushed: Fake, content: bytes) -> None:
    manifest = json.loads(pushed.manifests["v1"])
    title = manifest["annotations"]["org.opencontainers.image.title"]
    layer = {
        "mediaType": "application/vnd.lottapack.signature.v1", "digest": digest_of(content), "size": len(content),
        "annotations": {"org.opencontainers.image.title": f"{title}.sig"},
    }  # fmt: skip
    manifest["layers"][1:] = [layer]
    pushed.blobs[digest_of(content)] = content
    pushed.manifests["v1"] = json.dumps(manifest).encode()


def test_a_signature_of_any_size_is_neither_pulled_nor_pushed(pushed, pack, tmp_path):
    with_signature(pushed, b"s" * 1_000_000)
    assert packs.pull(pushed.reference()).received
    with_signature(pushed, b"s" * 1_000_001)
    asked = len(pushed.asked)
    with pytest.raises(RegistryError, match="signature has 1,000,001 bytes"):
        packs.pull(pushed.reference())
    assert len(pushed.asked) == asked + 1
    mine = tmp_path / pack.name
    mine.write_bytes(pack.read_bytes())
    mine.with_name(f"{pack.name}.sig").write_bytes(b"s" * 1_000_001)
    with pytest.raises(SignatureError, match="is not a signature: it has 1,000,001 bytes"):
        packs.push(mine, pushed.reference())


def test_one_bad_tag_or_repository_does_not_hide_the_rest(pushed, caplog):
    pushed.manifests["bad"] = b"{}"
    pushed.odd = on("GET", "/manifests/bad", 200, b"{}", {"Docker-Content-Digest": "sha256:" + "0" * 64})
    host = f"oci://{pushed.host}"
    with caplog.at_level(logging.WARNING, "lottapack"):
        assert [names for entry in packs.history(f"{host}/o/m") for names in entry.names] == ["v1"]
        assert [one.reference for one in packs.list_packs(host)] == [pushed.reference()]
    assert len(caplog.messages) == 2
    assert all("left out" in line and "\n" not in line for line in caplog.messages)
    catalogue = on("GET", "_catalog", 200, b'{"repositories": ["o/m", "o/odd"]}', {})
    tags = on("GET", "/o/odd/tags", 200, b'{"tags": 5}', {})
    pushed.odd = lambda *asked: catalogue(*asked) or tags(*asked)
    assert [one.reference for one in packs.list_packs(host)] == [pushed.reference()]


def test_a_list_that_is_cut_says_so(pushed, caplog, monkeypatch):
    monkeypatch.setattr(oci_client, "MAX_LISTED", 2)
    whole = f"oci://{pushed.host}/o/m"
    pushed.manifests["v2"] = pushed.manifests["v1"]
    assert packs.history(whole)[0].names == ("v1", "v2")
    assert not caplog.messages
    pushed.manifests["v3"] = pushed.manifests["v1"]
    with caplog.at_level(logging.WARNING, "lottapack"):
        assert packs.history(whole)[0].names == ("v1", "v2")
    assert "more than 2 tags" in caplog.text


def test_an_empty_content_encoding_is_none(pushed, pack):
    pushed.odd = on("GET", "/blobs/", 200, pack.read_bytes(), {"Content-Encoding": ""})
    assert packs.pull(pushed.reference()).path.read_bytes() == pack.read_bytes()


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_disk_that_becomes_full_is_an_output_error(call, pushed, pack, cache, monkeypatch):
    """At each of the steps that make the files durable, one after another."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in range(1, 3):
        real, calls = getattr(Path if call == "replace" else os, call), []

        def fails(*arguments, step=step, real=real, calls=calls, **options):
            calls.append(1)
            return full() if len(calls) == step else real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path if call == "replace" else os, call, fails)
            try:
                packs.pull(pushed.reference())
            except OutputError as fault:
                assert fault.hint
            else:
                assert call == "fsync"  # of a folder, which not every system can
        assert packs.pull(pushed.reference()).path.read_bytes() == pack.read_bytes()
        for path in cache.rglob("manifest.json"):
            path.unlink()


def test_a_pull_that_failed_does_not_remove_the_folder_of_another(pushed, pack, monkeypatch):
    """It could remove an empty folder after another process had made sure of it, and before it got the lock."""
    real = oci_cache.acquired

    def late(path):
        lock = real(path)
        folder = oci_cache.entry(f"sha256:{path.name}").folder
        if folder.is_dir():
            folder.rmdir()
        return lock

    monkeypatch.setattr(oci_cache, "acquired", late)
    assert packs.pull(pushed.reference()).path.read_bytes() == pack.read_bytes()


def test_what_fails_leaves_no_folder(pushed, cache):
    pushed.blobs.clear()
    with pytest.raises(NotFoundError):
        packs.pull(pushed.reference())
    assert [path for path in cache.rglob("sha256/*") if not list(path.iterdir())] == []
