"""Every failure: exit code and message, never a traceback."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from cli_runs import Files, Result, Run, real
from safetensors.torch import save_file
from torch import nn

import lottapack
from lottapack import errors as errors_module
from lottapack_cli import errors
from lottapack_cli.app import app


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert [word for word in words if word not in result.err] == []


def test_python_arguments_become_options() -> None:
    command = typer.main.get_command(app)
    options = errors.options_of(command, ["run", "PACK", "--tokens", "1"])
    assert options["max_bytes"] == "--max-bytes"
    assert errors.in_options("pass `inputs` or a larger `max_bytes`", options) == "pass --input or a larger --max-bytes"
    assert errors.in_options("`new_tokens=8` of `pack`, not `others`", options) == "--new 8 of PACK, not `others`"
    assert errors.in_options("`allow=['a', 'b.c']`", options) == "--allow a --allow b.c"
    formats = {"form": "--format"}
    assert errors.in_options("with `format='transformers'` or `format=peft`", formats) == (
        "with --format transformers or --format peft"
    )
    served = errors.options_of(command, ["serve", "token", "add"])
    assert errors.in_options("`root`, `max_bytes`", served) == "--root, `max_bytes`"


def command_lines(pack: Path, folder: Path) -> list[list[object]]:
    return [
        ["inspect", pack],
        ["verify", pack],
        ["report", pack],
        ["export", pack, "-o", folder / "out.safetensors"],
    ]


def truncated(files: Files, path: Path) -> None:
    path.write_bytes(files.pack.read_bytes()[:-1])


def plain_safetensors(files: Files, path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


def empty(files: Files, path: Path) -> None:
    path.touch()


def folder(files: Files, path: Path) -> None:
    path.mkdir()


def missing(files: Files, path: Path) -> None:
    pass


BROKEN = [
    (missing, "No such file"),
    (empty, "the file is empty"),
    (folder, "is a folder that does not contain a pack"),
    (truncated, "truncated"),
    (plain_safetensors, "Make a pack of it: lottapack pack "),
]


@pytest.mark.parametrize(("make", "words"), BROKEN)
def test_a_file_that_is_no_pack(
    make: Callable[[Files, Path], None], words: str, run: Run, files: Files, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.lotta.safetensors"
    make(files, broken)
    for line in command_lines(broken, tmp_path):
        refused(run(*line), 2, str(broken), words)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("make", "words"), [(missing, "no such file"), (folder, "does not contain a checkpoint"), (empty, "cannot read")]
)
def test_a_checkpoint_that_cannot_be_read(
    make: Callable[[Files, Path], None], words: str, run: Run, files: Files, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model.safetensors"
    make(files, checkpoint)
    refused(run("pack", checkpoint, "-o", tmp_path / "p"), 2, words)


def test_a_checkpoint_without_a_recipe(run: Run, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    refused(
        run("pack", tmp_path / "model.safetensors", "-o", tmp_path / "p"),
        2,
        "does not contain a lottapack recipe",
        "scaffold()",
    )


@pytest.fixture
def damaged(files: Files, tmp_path: Path) -> Path:
    """Flip one bit of the last tensor."""
    path = tmp_path / "damaged.lotta.safetensors"
    content = bytearray(files.pack.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


def test_verify_finds_a_flipped_bit(run: Run, damaged: Path) -> None:
    result = run("verify", damaged)
    assert (result.code, result.err) == (1, "")
    assert "NOT intact" in result.out
    assert "4.weight" in result.out
    record = json.loads(run("verify", damaged, "--json").out)
    assert record["ok"] is False
    assert [check["where"] for check in record["checks"] if check["status"] == "failed"] == ["4.weight"]
    assert run("verify", damaged, "--quiet") == (1, "", "")


def test_export_refuses_a_flipped_bit_and_keeps_the_old_file(run: Run, damaged: Path, tmp_path: Path) -> None:
    out = tmp_path / "full.safetensors"
    out.write_text("old")
    refused(run("export", damaged, "-o", out), 1, "damaged", "4.weight")
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [damaged.name, out.name]


NOWHERE = [(command, "no/such/out.png") for command in ("pack", "export", "report", "demo")]
FOLDER = [(command, "folder.png") for command in ("pack", "report")]


@pytest.mark.parametrize(("command", "place"), NOWHERE + FOLDER)
def test_an_output_that_cannot_be_written(command: str, place: str, run: Run, files: Files, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    out = tmp_path / place
    line = {
        "pack": ["pack", files.checkpoint, "-o", out],
        "export": ["export", files.pack, "-o", out],
        "report": ["report", files.pack, "--plot", out],
        "demo": ["demo", "--output", out],
    }[command]
    refused(run(*line), 2, str(out))


def test_a_picture_of_another_kind(run: Run, files: Files, tmp_path: Path) -> None:
    refused(run("report", files.pack, "--plot", tmp_path / "sizes.gif"), 2, ".png or .svg")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(device: str, run: Run, files: Files, tmp_path: Path) -> None:
    refused(run("export", files.pack, "-o", tmp_path / "x", "--device", device), 2, device)
    refused(run("verify", files.pack, "--device", device), 2, device)


def test_a_transformers_export_of_another_model(run: Run, files: Files, tmp_path: Path) -> None:
    refused(run("export", files.pack, "-o", tmp_path, "--format", "transformers"), 2, "Export it as safetensors")


def test_a_model_over_the_limit(run: Run, files: Files, tmp_path: Path) -> None:
    refused(run("verify", files.pack, "--max-bytes", 100), 2, "--max-bytes 100")
    refused(run("export", files.pack, "-o", tmp_path / "x", "--max-bytes", 100), 2, "--max-bytes 100")


def test_against_nothing(run: Run, files: Files, tmp_path: Path) -> None:
    refused(run("report", files.pack, "--against", tmp_path / "none"), 2, "does not contain a checkpoint")


USAGE = [
    (["inspect", "p", "--colour"], "--colour", "lottapack inspect --help"),
    (["inspekt"], "inspekt", "Did you mean 'inspect'?"),
    (["pack"], "CHECKPOINT", "lottapack pack --help"),
    (["pack", "x", "--seed", "1"], "--seed", "--from-merged"),
    (["pack", "x", "--rng", "torch-cpu"], "need --seed", "lottapack pack --help"),
    (["pack", "x", "--rng", "mt19937"], "mt19937", "torch-cpu"),
    (["pack", "x", "--from-merged", "--seed", "1"], "--max-rank", "lottapack pack --help"),
    (["pack", "x", "--from-merged", "--rng", "torch-cpu", "--seed", "1"], "choose", "lottapack pack --help"),
    (["pack", "x", "--max-rank", "3"], "are only valid with --from-merged", "lottapack pack --help"),
    (["pack", "x", "--rng", "torch-cpu", "--seed", "1", "--base", "b"], "--base", "lottapack pack --help"),
    (["export", "p", "-o", "x", "--dtype", "int3"], "int3", "bfloat16"),
    (["verify", "p", "--max-bytes", "0"], "--max-bytes", "lottapack verify --help"),
    (["report", "p", "--json", "--markdown"], "--markdown", "--json"),
]


@pytest.mark.parametrize(("line", "what", "then"), USAGE)
def test_wrong_usage(line: list[str], what: str, then: str, run: Run) -> None:
    result = run(*line)
    if "--json" in line:
        assert result.code == 2
        assert what in json.loads(result.out)["error"]["message"]
    else:
        refused(result, 2, what, then)


def test_no_command_shows_the_help(run: Run) -> None:
    result = run()
    assert (result.code, result.out) == (2, "")
    assert "Usage: lottapack" in result.err


def test_errors_as_json(run: Run, files: Files, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    truncated(files, broken)
    result = run("inspect", broken, "--json")
    record = json.loads(result.out)
    error = record["error"]
    assert (result.code, record["ok"], record["warnings"]) == (2, False, [])
    assert result.err.startswith(f"error: {error['message']}")
    assert error.keys() == {"kind", "message", "hint", "problems"}
    assert error["kind"] == "ContainerError"
    assert error["problems"][0].keys() == {"kind", "where", "message"}
    assert error["problems"][0]["kind"] == "offsets"
    usage = json.loads(run("inspect", "--json", "--colour").out)["error"]
    assert usage["kind"] == "UsageError"
    assert "lottapack inspect --help" in usage["hint"]


EXIT_CODES = {
    errors_module.ContainerError: 2,
    errors_module.DescriptorError: 2,
    errors_module.AgreementError: 2,
    errors_module.FormatError: 2,
    errors_module.IntegrityError: 1,
    errors_module.SignatureError: 1,
    errors_module.InvalidKeyError: 2,
    errors_module.LimitError: 2,
    errors_module.UnsupportedError: 2,
    errors_module.PlacementError: 2,
    errors_module.DeviceError: 1,
    errors_module.ArchitectureError: 2,
    errors_module.NotAllowedError: 2,
    errors_module.ScaffoldError: 2,
    errors_module.CheckpointError: 2,
    errors_module.OutputError: 2,
    errors_module.InvalidReferenceError: 2,
    errors_module.RegistryError: 3,
    errors_module.NetworkError: 3,
    errors_module.AccessError: 3,
    errors_module.NotFoundError: 3,
    errors_module.ConflictError: 3,
}


def test_every_error_has_an_exit_code() -> None:
    located = (errors_module.FormatError, errors_module.IntegrityError)
    public = {kind for name, kind in vars(errors_module).items() if name.endswith("Error") and name[0] != "_"}
    assert public == EXIT_CODES.keys() | {errors_module.LottapackError}
    for kind, code in EXIT_CODES.items():
        fault = kind("p", []) if issubclass(kind, located) else kind("p")
        assert errors.exit_code(fault) == code


def test_a_missing_extra_names_its_remedy(
    run: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(run("report", files.pack, "--plot", tmp_path / "x.png"), 2, "pip install 'lottapack[plot]'")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    refused(run("demo", "--quiet"), 2, "pip install 'lottapack[demo]'")


def test_a_changed_backbone_is_a_warning(run: Run, tmp_path: Path) -> None:
    model = lottapack.scaffold(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), seed=1, rank=1, persistent=True)
    with torch.no_grad():
        model[0].backbone[0, 0] += 1
    torch.save(model.state_dict(), tmp_path / "model.pt")
    line = ["pack", tmp_path / "model.pt", "-o", tmp_path / "p"]
    result = run(*line)
    assert result.code == 0
    assert result.err.startswith("warning: 1 frozen weights differ from what seed")
    result = run(*line, "--json")
    assert result.err == ""
    assert len(json.loads(result.out)["warnings"]) == 1
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        assert run(*line, "--quiet").out == ""
    assert left == []


def test_names_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "\x1b[31mred\u202e")
    assert "\x1b" not in result.err
    assert "\\x1b[31mred\\u202e" in result.err


def test_a_real_process_exits_with_the_code(tmp_path: Path) -> None:
    refused(real("inspect", tmp_path / "none"), 2, "No such file")
