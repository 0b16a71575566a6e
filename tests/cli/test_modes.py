"""Every command in every output mode."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from cli_runs import Files, Run, real
from extent import ordinary
from safetensors.torch import load_file

import lottapack
from lottapack_cli.demo import training

COMMANDS = ("pack", "inspect", "verify", "export", "report", "bench", "demo")
WITH_A_REGISTRY = ("push", "pull", "list", "log")
"""Their modes are tested where a registry is: tests/registry."""


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)


def arguments(command: str, files: Files, folder: Path) -> list[object]:
    return {
        "pack": ["pack", files.checkpoint, "-o", folder / "new.lotta.safetensors"],
        "inspect": ["inspect", files.pack],
        "verify": ["verify", files.pack],
        "export": ["export", files.pack, "-o", folder / "full.safetensors"],
        "report": ["report", files.pack],
        "bench": ["bench", "--elements", 5000, "--rounds", 1],
        "demo": ["demo", "--output", folder / "demo"],
    }[command]


HUMAN = {
    "pack": ["packed", "new.lotta.safetensors", "sha256"],
    "inspect": ["Sequential (torch.nn)", "seed 42", "adapted", "0.weight", "32 x 16", "rank 2"],
    "verify": ["fingerprint", "intact", "sha256"],
    "export": ["exported", "full.safetensors"],
    "report": ["this pack", "float32", "4-bit", "100 Mbit/s", "by group", "adapters", "by role", "bits per weight"],
    "bench": ["normal16", "bfloat16", "torch.randn", "clone", "download", "5,000 weights, median of 1", "cpu"],
    "demo": ["1  Train", "2  Pack", "3  Inspect", "4  Push", "5  Pull", "6  Compare", "7  Verify", "8  Sizes", "SAME"],
}


@pytest.mark.parametrize("command", ordinary(COMMANDS, {"demo"}))
def test_people_see_the_result(command: str, run: Run, files: Files, tmp_path: Path) -> None:
    result = run(*arguments(command, files, tmp_path))
    assert (result.code, result.err) == (0, "")
    assert [word for word in HUMAN[command] if word not in result.out] == []
    assert "\x1b" not in result.out


JSON = {
    "pack": {"path", "size", "sha256", "stored_instead", "kept"},
    "inspect": {"file_size", "architecture", "config", "seed", "parameters", "provenance"},
    "verify": {"ok", "path", "sha256", "checks"},
    "export": {"path", "size"},
    "report": {
        "size",
        "numel",
        "bits_per_weight",
        "forms",
        "by_role",
        "by_group",
        "bits_by_group",
        "saved",
        "memory",
        "plot",
    },
    "bench": {"device", "machine", "elements", "rounds", "speeds"},
    "demo": {"same", "differing", "before", "after", "pack_size", "full_size", "ratio"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_object_and_nothing_else(command: str, run: Run, files: Files, tmp_path: Path) -> None:
    result = run(*arguments(command, files, tmp_path), "--json")
    assert (result.code, result.err) == (0, "")
    record = json.loads(result.out)
    assert record.keys() >= JSON[command]
    assert record["warnings"] == []


@pytest.mark.parametrize("command", ordinary(COMMANDS, {"demo"}))
def test_quiet_prints_nothing(command: str, run: Run, files: Files, tmp_path: Path) -> None:
    assert run(*arguments(command, files, tmp_path), "--quiet") == (0, "", "")


@pytest.mark.parametrize("command", (*COMMANDS, *WITH_A_REGISTRY, "sign"))
def test_help_has_examples_that_name_the_command(command: str, run: Run) -> None:
    result = run(command, "--help")
    assert result.code == 0
    examples = result.out.partition("Examples:\n")[2].strip().splitlines()
    assert 1 <= len(examples) <= 4
    assert all(example.strip().startswith(f"lottapack {command}") for example in examples)


def test_help_lists_the_commands_uncut(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    assert all(f"\n  {command} " in result.out for command in (*COMMANDS, *WITH_A_REGISTRY, "sign"))
    assert "..." not in result.out.partition("Commands:")[2]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"lottapack {lottapack.__version__}\n", "")


def test_pack_and_export_write_what_the_library_writes(run: Run, files: Files, tmp_path: Path) -> None:
    packed = json.loads(run("pack", files.checkpoint, "-o", tmp_path / "p.lotta.safetensors", "--json").out)
    content = (tmp_path / "p.lotta.safetensors").read_bytes()
    assert content == files.pack.read_bytes()
    assert packed["sha256"] == hashlib.sha256(content).hexdigest()
    assert run("export", files.pack, "-o", tmp_path / "half", "--dtype", "bfloat16", "--quiet").code == 0
    plain = lottapack.load(files.pack, merge=True, dtype=torch.bfloat16).state_dict()
    exported = load_file(tmp_path / "half")
    assert exported.keys() == plain.keys()
    assert all(torch.equal(exported[name].view(torch.int16), plain[name].view(torch.int16)) for name in plain)


def test_a_real_process_says_the_same(run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # as real() has it
    for command in (["inspect", files.pack], ["verify", files.pack, "--json"], ["report", files.pack, "--markdown"]):
        assert real(*command) == run(*command)


def test_inspect_all_lists_each(run: Run, files: Files) -> None:
    brief, full = run("inspect", files.pack).out, run("inspect", files.pack, "--all").out
    assert "0,2.bias" in brief
    assert "0.bias" not in brief
    assert all(name in full for name in ("0.bias", "2.bias", "4.bias", "4.weight"))


def test_verify_on_a_device_finds_the_same(run: Run, files: Files) -> None:
    on_cpu = run("verify", files.pack, "--json")
    assert run("verify", files.pack, "--json", "--device", "cpu:0") == on_cpu


def test_verify_all_lists_each(run: Run, files: Files) -> None:
    assert "0.lora_A" not in run("verify", files.pack).out
    assert "0.lora_A" in run("verify", files.pack, "--all").out


def test_report_against_a_real_checkpoint(run: Run, files: Files) -> None:
    record = json.loads(run("report", files.pack, "--against", files.checkpoint, "--json").out)
    measured = {form["label"]: form["size"] for form in record["forms"]}
    assert measured["model.pt"] == files.checkpoint.stat().st_size
    assert sum(record["by_group"].values()) == sum(record["by_role"].values()) == files.pack.stat().st_size


def test_report_markdown_is_asked_for_even_when_quiet(run: Run, files: Files) -> None:
    result = run("report", files.pack, "--markdown", "--quiet")
    rows = [line for line in result.out.splitlines() if line.startswith("|")]
    assert rows[0] == "| form | size | times the pack | at 10 Mbit/s | at 100 Mbit/s | at 1000 Mbit/s |"
    assert rows[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert rows[2].startswith("| this pack |")


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_report_draws(run: Run, files: Files, tmp_path: Path, suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    first, second = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    assert run("report", files.pack, "--plot", first, "--quiet") == (0, "", "")
    assert run("report", files.pack, "--plot", second, "--quiet") == (0, "", "")
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()
    if suffix == "svg":
        assert "this pack" in first.read_text()
