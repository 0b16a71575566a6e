"""The --json output of each command follows its schema, also on refusal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hub_runs import Hub, Run
from jsonschema import Draft202012Validator
from torch import nn

import lottapack
from lottapack_cli.app import app
from lottapack_cli.demo import training
from lottapack_cli.schemas import COMMANDS, document, schema_of

REPO = "my-org/digits"


def commands(group: Any, name: str = "") -> Iterator[str]:
    """Return every command; a group that does something itself (serve) counts too."""
    context = group.make_context("lottapack", [], resilient_parsing=True)
    for word in group.list_commands(context):
        found = group.get_command(context, word)
        full = f"{name} {word}".strip()
        if not hasattr(found, "list_commands"):
            yield full
            continue
        if found.invoke_without_command:
            yield full
        yield from commands(found, full)


def test_every_command_has_a_schema() -> None:
    assert sorted(commands(typer.main.get_command(app))) == sorted(COMMANDS)
    Draft202012Validator.check_schema(document())


@pytest.fixture
def here(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the working folder, with a checkpoint, merged weights and inputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "EPOCHS", 1)
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), seed=1, rank=2)
    torch.save(model.state_dict(), "model.pt")
    np.save("in.npy", np.ones((1, 16), np.float32))
    np.save("nan.npy", np.full((1, 16), np.nan, np.float32))
    return tmp_path


def printed(run: Run, command: str, *arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*command.split(), *arguments, "--json")
    record = json.loads(result.out)
    assert result.code == code, result
    assert record["ok"] == (code == 0)
    Draft202012Validator(schema_of(command)).validate(record)
    return record


def test_what_is_done_here(here: Path, pack: Path, run: Run) -> None:
    printed(run, "pack", "model.pt", "--coding", "*=int8-block64")
    printed(run, "pack", "model.pt", "--max-error", "0.1", "--check", "in.npy")
    printed(run, "inspect", pack)
    printed(run, "verify", pack)
    printed(run, "verify", pack, "model.pt", pack, code=2)
    printed(run, "export", pack, "-o", "full.safetensors")
    printed(run, "report", pack)
    printed(run, "report", pack, "--table")
    printed(run, "bench", "--elements", 2000, "--rounds", 1)
    printed(run, "bench", "--virtual", "--elements", 2000, "--rounds", 1)
    printed(run, "demo")
    net = "torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Linear(9, 2))"
    Path("task.py").write_text(f"import torch\ntrain = lambda *_: 1.0\nbuild = lambda _: {net}\n")
    printed(run, "study", "task:train", "--ranks", "1", "--seeds", "1")


def test_numbers_that_are_not_finite_are_told_apart(here: Path, pack: Path, run: Run) -> None:
    assert printed(run, "run", pack, "--input", "in.npy")["values"]["output"]
    assert printed(run, "run", pack, "--input", "nan.npy")["values"]["output"] == [["NaN"] * 4]


def test_what_is_done_at_a_registry(here: Path, hub: Hub, pack: Path, run: Run) -> None:
    printed(run, "push", pack, REPO, "--dry-run")
    printed(run, "push", pack, REPO, "--tag", "v1")
    printed(run, "pull", f"{REPO}@v1", "--export", "full", "-o", "copy.lotta.safetensors")
    printed(run, "list", "my-org")
    printed(run, "log", REPO)
    for line in (["serve", "check"], ["serve", "backup", "copy"], ["serve", "token", "add", "alice"]):
        printed(run, " ".join(line[:2] if line[1] != "token" else line[:3]), *line[2 + (line[1] == "token") :])
    printed(run, "serve token list")
    printed(run, "serve token remove", "alice")
    printed(run, "serve restore", "copy", "--root", "other")


def test_a_signature(here: Path, pack: Path, run: Run) -> None:
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    Path("me.pem").write_bytes(key.private_bytes(*kinds))
    printed(run, "sign", pack, "--key", "me.pem")


REFUSED = {
    "pack": ["none.pt"],
    "inspect": ["model.pt"],
    "verify": ["model.pt"],
    "sign": ["model.pt", "--key", "none.pem"],
    "export": ["model.pt", "-o", "x"],
    "report": ["model.pt"],
    "run": ["model.pt", "--tokens", "1"],
    "study": ["task:train"],
    "push": ["model.pt", REPO],
    "pull": ["./model.pt"],
    "list": ["a b"],
    "log": ["./model.pt"],
    "bench": ["--device", "nonsense"],
    "demo": ["-o", "no/such"],
    "serve": ["--port", "99999"],
    "serve check": ["--root", "model.pt"],
    "serve backup": [],
    "serve restore": ["none", "--root", "new"],
    "serve token add": ["a b", "--root", "new"],
    "serve token list": ["--root", "model.pt"],
    "serve token remove": ["nobody", "--root", "new"],
}


@pytest.mark.parametrize("command", REFUSED)
def test_a_refusal_is_an_object_too(command: str, here: Path, run: Run) -> None:
    record = printed(run, command, *REFUSED[command], code=2)
    assert record["error"]["message"]
    assert record["error"]["kind"][0].isupper()


def test_every_command_is_refused_once() -> None:
    assert REFUSED.keys() == COMMANDS.keys()
