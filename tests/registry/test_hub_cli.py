"""push, pull, list and log in every output mode, and what they import."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_runs import Hub, Run

import lottapack
from lottapack import registry

REPO = "my-org/digits"
COMMANDS = ("push", "pull", "list", "log")


@pytest.fixture
def there(hub: Hub, pack: Path) -> registry.PushResult:
    result = lottapack.push(pack, REPO, tag="v1")
    shutil.rmtree(hub.cache, ignore_errors=True)
    return result


def arguments(command: str, pack: Path) -> list[object]:
    return {
        "push": ["push", pack, "my-org/new", "--tag", "v1", "--license", "mit"],
        "pull": ["pull", f"{REPO}@v1"],
        "list": ["list", "my-org"],
        "log": ["log", REPO],
    }[command]


HUMAN = {
    "push": ["pushed my-org/new@v1 (new repository)", "digits.lotta.safetensors", "README.md", "commit ", "sha256 "],
    "pull": [f"pulled {REPO}@v1", "received", "commit ", "sha256 ", "verified", "digits.lotta.safetensors"],
    "list": [REPO, "public"],
    "log": ["v1, main", "Push digits.lotta.safetensors with lottapack", "initial commit"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_people_see_the_result(command: str, there: registry.PushResult, pack: Path, run: Run) -> None:
    result = run(*arguments(command, pack))
    assert (result.code, result.err) == (0, "")
    assert [word for word in HUMAN[command] if word not in result.out] == []
    assert "\x1b" not in result.out


JSON = {
    "push": {
        "reference",
        "revision",
        "sha256",
        "size",
        "sent",
        "already",
        "created",
        "dry_run",
        "url",
        "removed",
        "modelpack",
    },
    "pull": {"path", "reference", "revision", "sha256", "size", "received", "exported"},
    "list": {"owner", "packs"},
    "log": {"reference", "entries"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_object_and_nothing_else(command: str, there: registry.PushResult, pack: Path, run: Run) -> None:
    result = run(*arguments(command, pack), "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out).keys() == JSON[command] | {"ok", "warnings"}


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_prints_nothing(command: str, there: registry.PushResult, pack: Path, run: Run) -> None:
    assert run(*arguments(command, pack), "--quiet") == (0, "", "")


def test_a_package_is_allowed_for_an_export_only(run: Run) -> None:
    assert run("pull", REPO, "--allow", "ncps").err.startswith("error: --allow is for --export")


def test_a_dry_run_says_what_would_be(hub: Hub, pack: Path, run: Run) -> None:
    out = run("push", pack, REPO, "--dry-run").out
    assert "would push my-org/digits (new repository)" in out
    assert out.count("would send") == 2
    assert "commit" not in out
    run("push", pack, REPO)
    out = run("push", pack, REPO, "--dry-run").out
    assert out.count("there already") == 2
    assert "would send" not in out


def test_the_pack_of_a_folder_is_sent(hub: Hub, pack: Path, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    shutil.copy(pack, folder)
    assert "pushed my-org/digits" in run("push", folder, REPO).out
    assert lottapack.pull(REPO).path.read_bytes() == pack.read_bytes()
    shutil.copy(pack, folder / "another.lotta.safetensors")
    assert "contains 2 packs" in run("push", folder, REPO).err
    (tmp_path / "empty").mkdir()
    assert run("push", tmp_path / "empty", REPO).code != 0


def test_pull_prints_the_path_last(there: registry.PushResult, pack: Path, run: Run) -> None:
    for words in ("received", "from the cache"):
        out = run("pull", REPO).out
        assert words in out
        assert Path(out.splitlines()[-1]).read_bytes() == pack.read_bytes()


def test_nothing_of_an_owner_is_said_in_words(hub: Hub, run: Run) -> None:
    assert run("list", "nobody").out == "no packs of nobody\n"


def test_errors_as_json(hub: Hub, run: Run) -> None:
    result = run("pull", REPO, "--json")
    record = json.loads(result.out)
    error = record["error"]
    assert (result.code, record["ok"], error["kind"]) == (3, False, "NotFoundError")
    assert result.err == f"error: {error['message']}\n{error['hint']}\n"
    assert REPO in error["message"]
    assert error["hint"]


def test_names_from_a_registry_cannot_steer_the_terminal(hub: Hub, pack: Path, run: Run) -> None:
    lottapack.push(pack, REPO, message="red \x1b[31m")
    out = run("log", REPO).out
    assert "\x1b" not in out
    assert "red" in out


def test_a_text_that_names_nothing(hub: Hub, pack: Path, run: Run) -> None:
    for line in (["pull", "digits"], ["push", pack, "a/b/c"], ["log", "https://x/y"], ["list", "a/b"]):
        result = run(*line)
        assert (result.code, result.out) == (2, "")
        assert "owner" in result.err or "my-org" in result.err
    assert hub.served == []


CHECK = """
import sys
from lottapack_cli.app import main
code = main(sys.argv[1:])
print("LOADED", *sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_of_a_registry_needs_torch(command: str, there: registry.PushResult, hub: Hub, pack: Path) -> None:
    line = [sys.executable, "-c", CHECK, *map(str, arguments(command, pack))]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=120, env=hub.environment())
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "huggingface_hub" in loaded
    assert "oras" not in loaded
    assert "torch" not in loaded
