"""The cases of ``signatures.json``: container.md, section 8. ECDSA on P-256 with the nonces of RFC 6979."""

import base64
import hashlib
import hmac
import json
from typing import Any

from . import valid_basics

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None
KEY, OTHER_KEY = 0x6C6F7474617061636B, 0x6F74686572  # "lottapack" and "other"
TYPE = "application/vnd.in-toto+json"
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def add(a: Point, b: Point) -> Point:
    """The sum of two points of the curve."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    rise = (3 * a[0] ** 2 - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (rise * rise - a[0] - b[0]) % P
    return x, (rise * (a[0] - x) - a[1]) % P


def times(k: int, point: Point) -> tuple[int, int]:
    """A multiple of a point."""
    total: Point = None
    while k:
        total = add(total, point) if k & 1 else total
        point = add(point, point)
        k >>= 1
    assert total is not None
    return total


def nonce(key: int, digest: bytes) -> int:
    """The first nonce of RFC 6979, which is in range for these cases."""
    value, state = b"\1" * 32, b"\0" * 32
    seed = key.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    for mark in (b"\0", b"\1"):
        state = hmac.digest(state, value + mark + seed, "sha256")
        value = hmac.digest(state, value, "sha256")
    found = int.from_bytes(hmac.digest(state, value, "sha256"), "big")
    assert 0 < found < N
    return found


def der(*numbers: int) -> bytes:
    """A sequence of positive integers."""
    parts = b""
    for number in numbers:
        data = number.to_bytes(number.bit_length() // 8 + 1, "big")
        parts += bytes([2, len(data)]) + data
    return bytes([0x30, len(parts)]) + parts


def sign(key: int, message: bytes) -> bytes:
    """A signature in DER."""
    digest = hashlib.sha256(message).digest()
    k = nonce(key, digest)
    r = times(k, G)[0] % N
    return der(r, (int.from_bytes(digest, "big") + r * key) * pow(k, -1, N) % N)


def public(key: int) -> str:
    """The public key in PEM."""
    x, y = times(key, G)
    text = base64.b64encode(SPKI + x.to_bytes(32, "big") + y.to_bytes(32, "big")).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def statement(digest: str, name: str) -> bytes:
    """What is signed about a file."""
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(bytes.fromhex(digest)).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [{"name": ".", "algorithm": "sha256", "digest": digest}],
        },
    }
    return json.dumps(value, separators=(",", ":")).encode()


def encoded(payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE."""
    return f"DSSEv1 {len(TYPE)} {TYPE} {len(payload)} ".encode() + payload


def bundle(key: int, payload: bytes, signature: bytes) -> str:
    """The text of a signature's file."""
    value = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(public(key).encode()).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(value)


def known_answers() -> dict[str, Any]:
    """``signatures.json``."""
    name = "minimal.lotta.safetensors"
    data = valid_basics.minimal().file()
    digest = hashlib.sha256(data).hexdigest()
    payload = statement(digest, name)
    right = bundle(KEY, payload, sign(KEY, encoded(payload)))
    elsewhere = statement(hashlib.sha256(data + b"\0").hexdigest(), name)
    cases = [
        ("signed", True, public(KEY), right),
        ("made with another key", False, public(OTHER_KEY), right),
        (
            "made with another key, with the hint of the right one",
            False,
            public(KEY),
            bundle(KEY, payload, sign(OTHER_KEY, encoded(payload))),
        ),
        ("of another file", False, public(KEY), bundle(KEY, elsewhere, sign(KEY, encoded(elsewhere)))),
        ("of another payload", False, public(KEY), bundle(KEY, payload, sign(KEY, encoded(elsewhere)))),
        ("of the payload without its encoding", False, public(KEY), bundle(KEY, payload, sign(KEY, payload))),
        ("not a bundle", False, public(KEY), json.dumps({"signature": digest})),
        ("not JSON", False, public(KEY), right[:-1]),
    ]
    return {
        "pack": f"files/valid/{name}",
        "cases": [{"why": why, "valid": ok, "key": key, "signature": text} for why, ok, key, text in cases],
    }
