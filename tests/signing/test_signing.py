"""Signing, checking, and refusing for the right reason."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from extent import extent
from signing_keys import Keys, make_keys, make_pack

import lottapack
from lottapack import signing
from lottapack.errors import IntegrityError, InvalidKeyError, SignatureError
from lottapack.format import packfile
from lottapack.format.packfile import open_pack

Bundle = dict[str, object]


def signature_of(pack: Path) -> Path:
    return pack.with_name(f"{pack.name}.sig")


def refused(pack: Path, key: Path) -> str:
    """Return load()'s refusal; numpy.load() and verify() must give the same."""
    with pytest.raises(SignatureError) as caught:
        lottapack.load(pack, require_signature=key)
    assert caught.value.hint
    with pytest.raises(SignatureError) as arrays:
        lottapack.numpy.load(pack, require_signature=key)
    assert arrays.value.message == caught.value.message
    [check] = [check for check in lottapack.verify(pack, key=key).checks if check.what == "signature"]
    assert (check.status, check.detail) == ("failed", caught.value.message)
    return caught.value.message


def other_tool(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command line of the standard's reference library."""
    line = [str(Path(sys.executable).with_name("model_signing")), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def test_a_signed_pack_loads(signed: Path, keys: Keys) -> None:
    model = lottapack.load(signed, require_signature=keys.public)
    plain = lottapack.load(signed)
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert lottapack.numpy.load(signed, require_signature=keys.public).keys() == lottapack.numpy.load(signed).keys()
    outcome = lottapack.verify(signed, key=keys.public)
    assert outcome.ok
    assert [check.where for check in outcome.checks if check.what == "signature"] == [signature_of(signed).name]


@pytest.mark.parametrize("curve", extent(["SECP256R1"], ["SECP256R1", "SECP384R1", "SECP521R1"]))
def test_other_tools_of_the_standard_agree(curve: str, pack: Path, tmp_path: Path) -> None:
    pair = make_keys(tmp_path / "keys", curve)
    assert lottapack.sign(pack, pair.private) == signature_of(pack)
    done = other_tool("verify", "key", "--public_key", pair.public, "--signature", signature_of(pack), pack)
    assert done.returncode == 0, done.stderr
    signature_of(pack).unlink()
    done = other_tool("sign", "key", "--private_key", pair.private, "--signature", signature_of(pack), pack)
    assert done.returncode == 0, done.stderr
    assert lottapack.load(pack, require_signature=pair.public)
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    pack.write_bytes(data)
    done = other_tool("verify", "key", "--public_key", pair.public, "--signature", signature_of(pack), pack)
    assert done.returncode != 0


def test_a_changed_pack(signed: Path, keys: Keys) -> None:
    before = signed.read_bytes()
    make_pack(signed, seed=43)
    assert "was changed after it was signed, or digits.lotta.safetensors.sig belongs to another file" in refused(
        signed, keys.public
    )
    signed.write_bytes(before)
    assert lottapack.load(signed, require_signature=keys.public)


def test_another_key(signed: Path, others: Keys) -> None:
    assert f"was not made with the private key of {others.public}" in refused(signed, others.public)


def test_a_stripped_signature(signed: Path, keys: Keys) -> None:
    signature_of(signed).unlink()
    assert refused(signed, keys.public).endswith("is not signed: digits.lotta.safetensors.sig does not exist beside it")


def test_the_signature_of_another_file(signed: Path, keys: Keys, tmp_path: Path) -> None:
    other = make_pack(tmp_path / "other.lotta.safetensors", seed=43)
    lottapack.sign(other, keys.private)
    shutil.copy(signature_of(other), signature_of(signed))
    assert "belongs to another file" in refused(signed, keys.public)


def changed(signed: Path, change: "object") -> None:
    bundle = json.loads(signature_of(signed).read_text("utf-8"))
    change(bundle)  # type: ignore[operator]
    signature_of(signed).write_text(json.dumps(bundle), "utf-8")


def lie(bundle: Bundle) -> None:
    """Put the digest of another file under the same signature."""
    envelope = bundle["dsseEnvelope"]
    assert isinstance(envelope, dict)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def test_a_changed_statement(signed: Path, keys: Keys) -> None:
    changed(signed, lie)
    assert "was not made with the private key of" in refused(signed, keys.public)


def test_a_signature_that_claims_another_key_by_its_hint(signed: Path, keys: Keys, others: Keys) -> None:
    """A right hint does not replace the check of the signature."""
    right = json.loads(signature_of(signed).read_text("utf-8"))["verificationMaterial"]
    lottapack.sign(signed, others.private)
    changed(signed, lambda bundle: bundle.update(verificationMaterial=right))
    assert "was not made with the private key of" in refused(signed, keys.public)


def without_signatures(bundle: Bundle) -> None:
    envelope = bundle["dsseEnvelope"]
    assert isinstance(envelope, dict)
    envelope["signatures"] = []


BROKEN = {
    "no envelope": lambda bundle: bundle.pop("dsseEnvelope"),
    "no material": lambda bundle: bundle.pop("verificationMaterial"),
    "no signatures": without_signatures,
    "material that is a list": lambda bundle: bundle.update(verificationMaterial=[]),
    "another media type": lambda bundle: bundle.update(mediaType="text/plain"),
    "a certificate": lambda bundle: bundle.update(verificationMaterial={"certificate": {"rawBytes": "AA=="}}),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_broken_bundles(change: object, signed: Path, keys: Keys) -> None:
    changed(signed, change)
    assert "is not a model signature" in refused(signed, keys.public)


TEXTS = {
    "empty": b"",
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "large": b" " * 2_000_000,
    "pickle": b"\x80\x04\x95",
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_files_that_are_no_signature(content: bytes, signed: Path, keys: Keys) -> None:
    signature_of(signed).write_bytes(content)
    assert "is not a" in refused(signed, keys.public)


def test_a_folder_is_not_what_is_signed(pack: Path, keys: Keys, tmp_path: Path) -> None:
    """A signature over a folder names its files; ours covers this one file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(pack, folder)
    done = other_tool("sign", "key", "--private_key", keys.private, "--signature", signature_of(pack), folder)
    assert done.returncode == 0, done.stderr
    assert "belongs to another file" in refused(pack, keys.public)


@pytest.mark.parametrize("which", ["missing", "public", "rsa", "text", "other curve", "large", "folder"])
def test_bad_keys(which: str, signed: Path, keys: Keys, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = {"public": keys.public, "folder": tmp_path}.get(which, tmp_path / "key")
    if which == "rsa":
        private = rsa.generate_private_key(65537, 2048)
        key.write_bytes(private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    elif which == "other curve":
        key = make_keys(tmp_path / "keys", "SECP256K1").private
    elif which in ("text", "large"):
        key.write_bytes(b"key " * (10 if which == "text" else 1_000_000))
    before = signature_of(signed).read_bytes()
    with pytest.raises(InvalidKeyError, match=str(key)) as caught:
        lottapack.sign(signed, key)
    assert "openssl" in caught.value.hint
    assert signature_of(signed).read_bytes() == before
    if which != "public":
        with pytest.raises(InvalidKeyError, match=str(key)):
            lottapack.load(signed, require_signature=key)


def test_a_private_key_checks_no_signature(signed: Path, keys: Keys) -> None:
    with pytest.raises(InvalidKeyError, match="public key"):
        lottapack.load(signed, require_signature=keys.private)


def test_an_encrypted_key(pack: Path, tmp_path: Path) -> None:
    pair = make_keys(tmp_path / "keys", password=b"open sesame")
    for wrong in (None, b"open barley"):
        with pytest.raises(InvalidKeyError):
            lottapack.sign(pack, pair.private, password=wrong)
    assert not signature_of(pack).exists()
    lottapack.sign(pack, pair.private, password=b"open sesame")
    assert lottapack.load(pack, require_signature=pair.public)


def test_a_broken_pack_is_not_signed(signed: Path, keys: Keys) -> None:
    before = signature_of(signed).read_bytes()
    data = bytearray(signed.read_bytes())
    data[-1] ^= 1
    signed.write_bytes(data)
    with pytest.raises(IntegrityError, match="SHA-256"):
        lottapack.sign(signed, keys.private)
    assert signature_of(signed).read_bytes() == before


def test_a_pack_that_changes_while_it_is_signed(
    pack: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, other = pack.read_bytes(), make_pack(tmp_path / "other", seed=43).read_bytes()
    real = packfile.PackFile.file_sha256

    def late(self: packfile.PackFile) -> str:
        found = real(self)
        pack.write_bytes(other)
        return found

    def early(self: packfile.PackFile, name: str) -> None:
        (tmp_path / "new").write_bytes(other)
        (tmp_path / "new").replace(pack)

    monkeypatch.setattr(packfile.PackFile, "check", early)
    with pytest.raises(IntegrityError, match="changed while it was being signed"):
        lottapack.sign(pack, keys.private)
    assert not signature_of(pack).exists()
    monkeypatch.undo()
    pack.write_bytes(right)
    monkeypatch.setattr(packfile.PackFile, "file_sha256", late)
    lottapack.sign(pack, keys.private)
    monkeypatch.undo()
    assert "was changed after it was signed" in refused(pack, keys.public)


def test_what_lies_at_the_path_later_does_not_count(pack: Path, keys: Keys, tmp_path: Path) -> None:
    """Swap an attacker's opened pack for the right one before the signature is checked."""
    right = pack.read_bytes()
    lottapack.sign(pack, keys.private)
    make_pack(tmp_path / "evil", seed=43).replace(pack)
    with open_pack(pack) as opened:
        (tmp_path / "right").write_bytes(right)
        (tmp_path / "right").replace(pack)
        with pytest.raises(SignatureError, match="was changed after it was signed"):
            signing.check_signature(opened, keys.public)


def test_a_header_written_over_after_it_was_read_does_not_count(pack: Path, keys: Keys, tmp_path: Path) -> None:
    """The same inside one file: the parsed header is the attacker's, the bytes hashed later are right."""
    right = pack.read_bytes()
    lottapack.sign(pack, keys.private)
    evil = make_pack(tmp_path / "evil", seed=43).read_bytes()
    assert len(evil) == len(right)
    pack.write_bytes(evil)
    with open_pack(pack) as opened:
        assert opened.descriptor.seed == 43
        with pack.open("r+b") as file:
            file.write(right)
        with pytest.raises(SignatureError, match="was changed after it was signed"):
            signing.check_signature(opened, keys.public)


def test_data_written_over_after_the_signature_was_checked_are_refused(signed: Path, keys: Keys) -> None:
    with open_pack(signed) as opened:
        signing.check_signature(opened, keys.public)
        data = bytearray(signed.read_bytes())
        data[-1] ^= 1
        with signed.open("r+b") as file:
            file.write(data)
        with pytest.raises(IntegrityError):
            for info in opened.tensors.values():
                opened.read_bytes(info)


def test_without_a_network(pack: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("asks the network")

    monkeypatch.setattr(socket.socket, "connect", nothing)
    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    lottapack.sign(pack, keys.private)
    assert lottapack.load(pack, require_signature=keys.public)


def test_without_the_library(pack: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(lottapack.errors.UnsupportedError, match="model_signing") as caught:
        lottapack.load(pack, require_signature=keys.public)
    assert "lottapack[sign]" in caught.value.hint


def command(*arguments: object, **more: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "lottapack_cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **more})


def test_the_commands(pack: Path, keys: Keys, others: Keys, tmp_path: Path) -> None:
    done = command("sign", pack, "--key", keys.private, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "ok": True,
        "path": str(pack),
        "signature": str(signature_of(pack)),
        "warnings": [],
    }
    done = command("verify", pack, "--key", others.public, "--json")
    assert done.returncode == 1
    failed = [check for check in json.loads(done.stdout)["checks"] if check["status"] == "failed"]
    assert [check["what"] for check in failed] == ["signature"]
    assert lottapack.verify(pack, key=keys.public).ok
    done = command("verify", pack, "--key", tmp_path / "none", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (2, "InvalidKeyError")
    locked = make_keys(tmp_path / "locked", password=b"open sesame")
    done = command("sign", pack, "--key", locked.private, "--quiet", LOTTAPACK_KEY_PASSWORD="open sesame")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert lottapack.verify(pack, key=locked.public).ok
