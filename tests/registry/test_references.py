"""Each text is one kind of reference, or is refused with the three forms."""

import re
from pathlib import Path

import pytest
from huggingface_hub import constants

import lottapack
from lottapack.errors import InvalidReferenceError
from lottapack.registry.references import (
    HubReference,
    OciReference,
    Owner,
    check_endpoint,
    parse,
    parse_owner,
    parse_remote,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
COMMIT = "0123456789" * 4

GOOD = {
    "my-org/digits": HubReference("my-org/digits"),
    "my-org/digits@v1": HubReference("my-org/digits", "v1"),
    f"my-org/digits@{COMMIT}": HubReference("my-org/digits", COMMIT),
    "hf://My_Org/Digits-2.5@refs/pr/1": HubReference("My_Org/Digits-2.5", "refs/pr/1"),
    "oci://localhost/digits": OciReference("localhost", "digits"),
    "oci://127.0.0.1:5055/models/digits:v1": OciReference("127.0.0.1:5055", "models/digits", "v1"),
    f"oci://ghcr.io/a/b/c@{DIGEST}": OciReference("ghcr.io", "a/b/c", None, DIGEST),
    "oci://[::1]:5055/digits:V1": OciReference("[::1]:5055", "digits", "V1"),
    "http://127.0.0.1:8780/my-org/digits": HubReference("my-org/digits", None, "http://127.0.0.1:8780"),
    "https://hub.test/my-org/digits@v1": HubReference("my-org/digits", "v1", "https://hub.test"),
    "./my-org/digits": Path("my-org/digits"),
    "../digits": Path("../digits"),
    "/tmp/digits": Path("/tmp/digits"),
    "~/digits": Path("~/digits"),
    "missing.safetensors": Path("missing.safetensors"),
    "runs/missing.lotta.safetensors": Path("runs/missing.lotta.safetensors"),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_a_text_names(text: str) -> None:
    assert parse(text) == GOOD[text]


@pytest.mark.parametrize("text", [text for text, found in GOOD.items() if not isinstance(found, Path)])
def test_a_reference_prints_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text.removeprefix("hf://")
    assert parse(str(parse(text))) == parse(text)


def test_a_file_goes_before_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-org").mkdir()
    (tmp_path / "my-org" / "digits").mkdir()
    assert parse("my-org/digits") == HubReference("my-org/digits")  # a folder is not a pack
    (tmp_path / "my-org" / "digits" / "model.lotta.safetensors").touch()
    assert parse("my-org/digits") == Path("my-org/digits")
    assert parse("my-org/none/") == Path("my-org/none")
    assert parse("my-org") == Path("my-org")  # nor a valid repository name
    (tmp_path / "my-org" / "file").touch()
    assert parse("my-org/file") == Path("my-org/file")
    assert parse("hf://my-org/file") == HubReference("my-org/file")
    (tmp_path / "bare").touch()
    assert parse("bare") == Path("bare")


def test_the_address_of_a_page_is_that_of_its_repository() -> None:
    for text in ("http://h:1/a/b/tree/v1", "http://h:1/a/b/tree/v1/"):
        assert parse(text) == HubReference("a/b", "v1", "http://h:1")


def test_what_is_in_a_registry_is_not_looked_for_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-org").mkdir()
    (tmp_path / "my-org" / "digits").touch()
    assert parse_remote("my-org/digits") == HubReference("my-org/digits")
    for text in ("./my-org/digits", "digits.lotta.safetensors", "/my-org/digits", "~/digits", "my-org/digits/"):
        with pytest.raises(InvalidReferenceError, match="is a path"):
            parse_remote(text)


def test_a_path_object_is_a_path() -> None:
    assert parse(Path("my-org/digits")) == Path("my-org/digits")


BAD = [
    "",
    "digits",
    "a/b/c",
    "my org/digits",
    "my-org/digits@",
    "my-org/digits@a b",
    "my-org/digits@../x",
    "my-org/digits@a//b",
    "my-org/-digits",
    "my-org/dig--its",
    "my-org/digits.git",
    "my-org/" + "x" * 96,
    "hf://digits",
    "ftp://huggingface.co/my-org/digits",
    "https://huggingface.co/my-org",
    "https://user@hub.test/my-org/digits",
    "https://hub.test/datasets/my-org/digits",
    "https:///my-org/digits",
    "oci://",
    "oci://host",
    "oci://host/",
    "oci://host/Digits",
    "oci://host:port/digits",
    "oci://host:65536/digits",
    "http://127.0.0.1:99999/my-org/digits",
    "HTTP://hub.test/my-org/digits",
    "https://hub.test/my-org/digits?download=true",
    "https://hub.test/my-org/digits#card",
    "oci://user@host/digits",
    "oci://host/../digits",
    "oci://host/digits:",
    "oci://host/digits:-v1",
    "oci://host/digits@sha256:00",
    f"oci://host/digits:v1@{DIGEST}",
    "x" * 5000,
    "a\0b/c",
]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse(text)
    assert caught.value.hint
    if ":v1@" not in text:
        assert all(form in caught.value.hint for form in ("owner/name", "oci://", "./model"))


def test_only_a_whole_hash_is_a_commit() -> None:
    assert HubReference("a/b", COMMIT).commit == COMMIT
    assert [HubReference("a/b", text).commit for text in (None, "v1", COMMIT[:-1], COMMIT.replace("0", "A"))] == [
        None
    ] * 4


def test_owners() -> None:
    assert parse_owner("my-org") == parse_owner("hf://my-org") == Owner("my-org")
    assert parse_owner("http://127.0.0.1:8780/my-org/") == Owner("my-org", server="http://127.0.0.1:8780")
    assert parse_owner("oci://127.0.0.1:5055") == Owner("", "127.0.0.1:5055")
    assert parse_owner("oci://127.0.0.1:5055/models/") == Owner("models", "127.0.0.1:5055")
    assert [str(parse_owner(text)) for text in ("a", "oci://h", "oci://h/m")] == ["a", "oci://h", "oci://h/m"]
    for text in ("", "my-org/digits", "oci://", "oci://h/UP", "https://h", "https://h/a/b", "a b", "oci://h:65536"):
        with pytest.raises(InvalidReferenceError, match="owner"):
            parse_owner(text)


@pytest.mark.parametrize("text", ["https://hub.test", "http://127.0.0.1:8780/", "https://mirror.test:65535/hub"])
def test_endpoints(text: str) -> None:
    check_endpoint(text)


@pytest.mark.parametrize("text", ["", "localhost:8000", "ftp://hub.test", "http://", "http://[::1", "https://h:99999"])
def test_an_endpoint_that_is_not_an_address_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", text)
    calls = (lambda: lottapack.pull("a/b"), lambda: lottapack.list_packs("a"), lambda: lottapack.history("a/b"))
    for call in calls:
        with pytest.raises(InvalidReferenceError, match=f"HF_ENDPOINT='{re.escape(text)}' is not the address"):
            call()


def test_a_registry_alone_is_named_where_no_file_may_be() -> None:
    for text in ("nothing", "a/b@", "oci://x", "ftp://a/b", "http://?/a/b"):
        with pytest.raises(InvalidReferenceError) as caught:
            parse_remote(text)
        assert "file" not in str(caught.value)
    with pytest.raises(InvalidReferenceError, match=r"a file of that name does not exist\nWrite \./model"):
        parse("nothing")
