"""Pairs of keys, and small packs."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import lottapack


class Keys(NamedTuple):
    """A pair of PEM files."""

    private: Path
    public: Path


def make_keys(folder: Path, curve: str = "SECP256R1", password: bytes | None = None) -> Keys:
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    locked = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    made = Keys(folder / "key.pem", folder / "key.pub")
    made.private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked))
    made.public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return made


def make_pack(path: Path, seed: int = 42) -> Path:
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), seed=seed, rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape)
    lottapack.pack(model, path)
    return path
