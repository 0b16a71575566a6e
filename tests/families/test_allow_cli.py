"""``--allow`` on the real command, in its own process."""

import json

import pytest
from cli_runs import real
from family_packs import PACKAGE

import lottapack
from lottapack_cli.app import main


@pytest.fixture
def run(capsys):
    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def marks(package):
    return [path.name for path in package.glob("*.imported")]


def test_verify(net_pack, package):
    code, out, err = real("verify", net_pack)
    assert code == 0, err
    assert "skipped" in out
    assert f"--allow {PACKAGE}" in " ".join(out.split())
    assert marks(package) == []
    code, out, _ = real("verify", net_pack, "--allow", PACKAGE, "--json")
    assert code == 0
    assert {check["status"] for check in json.loads(out)["checks"]} == {"ok"}
    assert "nets.imported" in marks(package)


def test_inspect_shows_what_must_be_allowed_and_imports_nothing(net_pack, package, run):
    code, out, _ = run("inspect", net_pack)
    assert code == 0
    assert f"allow {PACKAGE}" in " ".join(out.split())
    assert json.loads(run("inspect", net_pack, "--json")[1])["allow"] == [PACKAGE]
    assert run("report", net_pack)[0] == 0
    assert marks(package) == []


def test_export_needs_it_where_it_builds_the_model(net_pack, package, run, tmp_path):
    assert run("export", net_pack, "-o", tmp_path / "plain.safetensors")[0] == 0
    code, _, err = run("export", net_pack, "-o", tmp_path / "adapter", "--format", "peft")
    assert code == 2
    assert f"needs to import {PACKAGE}.nets" in " ".join(err.split())
    assert f"--allow {PACKAGE}" in " ".join(err.split())
    assert not (tmp_path / "adapter").exists()
    assert marks(package) == []
    code, _, err = run("export", net_pack, "-o", tmp_path / "adapter", "--format", "peft", "--allow", PACKAGE)
    assert "PEFT does not support beta" in err


def test_a_wrong_name_is_refused(net_pack, run):
    code, _, err = run("verify", net_pack, "--allow", "*")
    assert code == 2
    assert "is not the name of a package or module" in err


def test_torch_cpu_by_the_command(package, run, tmp_path):
    import torch

    torch.manual_seed(7)
    model = lottapack.build("python", f"{PACKAGE}.nets:Net", width=8)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    described = {"family": "python", "class": f"{PACKAGE}.nets:Net", "config": {"width": 8}}
    (tmp_path / "arch.json").write_text(json.dumps(described), "utf-8")
    pack = ("pack", tmp_path / "model.pt", "--rng", "torch-cpu", "--seed", 7, "--arch", tmp_path / "arch.json")
    code, _, err = run(*pack)
    assert code == 2
    assert f"--allow {PACKAGE}" in " ".join(err.split())
    assert not (tmp_path / "model.lotta.safetensors").exists()
    assert run(*pack, "--allow", PACKAGE)[0] == 0
    target = tmp_path / "model.lotta.safetensors"
    assert run("verify", target)[0] == 1
    assert run("verify", target, "--allow", PACKAGE)[0] == 0
    assert run("export", target, "-o", tmp_path / "plain.safetensors")[0] == 2
    assert run("export", target, "-o", tmp_path / "plain.safetensors", "--allow", PACKAGE)[0] == 0


def test_a_pushed_pack_is_verified_without_its_code(net_pack, package, run):
    """push verifies, and the card says how to load the pack."""
    from lottapack.pushing.card import card
    from lottapack.registry.records import PushOptions

    text = card(net_pack, "me/net", "0" * 64, PushOptions())
    assert f'lottapack.load("me/net", allow=["{PACKAGE}"])' in text
    assert marks(package) == []
