"""Wrong input to every command: one line says what is wrong, one says what to do."""

import os
from pathlib import Path

import numpy as np
import pytest
from cli_runs import Files, Run
from huggingface_hub import constants

from lottapack.errors import ContainerError
from lottapack.format.container import open_binary
from lottapack_cli.app import main

PACKS = [
    *("missing.lotta.safetensors", "folder", "folder/", "empty.lotta.safetensors", "text.txt", "nothing", "a b"),
    *("oci://x", "oci://127.0.0.1:9/a/b", "hf://a", "hf://a/b", "http://127.0.0.1:9/a/b", "ftp://x/y", "a/b", "", "\0"),
]
READERS = ("inspect", "verify", "report", "export -o out", "run --tokens 1", "pull", "log")
LINES = [
    *(f"{reader.partition(' ')[0]}|{pack}|{reader.partition(' ')[2]}" for reader in READERS for pack in PACKS),
    *(
        f"pack|{checkpoint}|"
        for checkpoint in ("missing.pt", "folder", "text.txt", "empty.pt", "ok", "", "folder/no/x")
    ),
    *("export|ok|", "export|ok|-o /nope/x", "export|ok|-o x --format none", "export|ok|-o x --scaffold none"),
    *("export|ok|-o x --max-shard-size huge", "export|ok|-o x --device tpu", "export|ok|-o text.txt --format peft"),
    *("report|ok|--plot x.gif", "report|ok|--plot /nope/x.png", "report|ok|--against none", "report|ok|--scale 3M"),
    *("report||--table --scale 7B", "run|ok|", "run|ok|--tokens a,b", "run|ok|--tokens 1", "run|ok|--prompt hi"),
    *(
        "run|ok|--input text.txt",
        "run|ok|--input none.npy",
        "run|ok|--input wrong.npy",
        "run|ok|--input in.npy -o x.txt",
    ),
    *(
        "run|ok|--input in.npy --backbone x",
        "run|ok|--input in.npy --top-p 2",
        "run|ok|--tokens 1 --tokens 2 --top-p 0",
    ),
    *(
        "sign|ok|",
        "sign|ok|--key none.pem",
        "sign|ok|--key text.txt",
        "verify|ok|--key text.txt",
        "verify|ok|--device x",
    ),
    *("push|ok|a/b", "push|text.txt|a/b", "push|ok|./x", "push|ok|http://127.0.0.1:9/a/b", "push|ok|a/b --result x"),
    *(
        "push|folder|a/b",
        "list|a|",
        "list|a b|",
        "list|oci://127.0.0.1:9|",
        "bench||--device tpu",
        "bench||--elements 0",
    ),
    *("demo||--output /nope/x", "demo||--output text.txt", "serve||--root text.txt", "serve||--port 99999"),
    *(
        "serve check||--root none",
        "serve backup||--root none",
        "serve restore|none|--root new",
        "serve token list||--root x",
    ),
    *("serve token add|a b|--root new", "serve token remove|x|--root new", "inspekt||", "|--nope|", "verify||"),
]


@pytest.fixture
def here(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working folder; every registry is a port without a listener."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / "ok.lotta.safetensors").write_bytes(files.pack.read_bytes())
    (tmp_path / "folder").mkdir()
    for name in ("empty.lotta.safetensors", "empty.pt"):
        (tmp_path / name).touch()
    (tmp_path / "text.txt").write_text("hello")
    np.save("in.npy", np.ones((1, 16), np.float32))
    np.save("wrong.npy", np.ones((1, 3), np.float32))
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_what_is_wrong_and_what_to_do(line: str, here: Path, run: Run) -> None:
    command, argument, options = line.split("|")
    given = [argument.replace("ok", "ok.lotta.safetensors", 1) if argument == "ok" else argument]
    without = argument == "" and command not in ("inspect", "pull", "log", "pack", "export", "run")
    result = run(*command.split(), *([] if without else given), *options.split())
    assert result.code in (1, 2, 3)
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) >= 2, "no next step"
    assert "Traceback" not in result.err
    assert "Errno" not in result.err
    assert sorted(path.name for path in here.iterdir() if path.name not in ("new", "reg", "registry")) == [
        *("empty.lotta.safetensors", "empty.pt", "folder", "in.npy", "ok.lotta.safetensors", "text.txt", "wrong.npy")
    ]


def test_what_nobody_may_look_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake the system's answer, since root may read everything."""

    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied", "folder/x.lotta.safetensors")

    for name in ("exists", "is_file", "is_dir", "open"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(ContainerError, match="Permission denied"):
        open_binary(Path("folder/x.lotta.safetensors"))


def test_a_refusal_of_the_system_names_the_place(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "some/place")

    monkeypatch.setattr("lottapack.reports.inspection.inspect", refuse)
    result = run("inspect", "a.lotta.safetensors")
    assert (result.code, result.err) == (2, "error: some/place: the system refused: Permission denied\n")


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_no_colour_where_none_is_wanted(term: str, files: Files, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("lottapack_cli.render.is_terminal", lambda stream: True)
    assert main(["inspect", os.fspath(files.pack)]) == 0
    assert "\x1b[3" not in capsys.readouterr().out
