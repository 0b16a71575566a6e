"""Standard streams that are closed, full, narrow, or lack characters."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Files, Run, start

from lottapack_cli.render import Output, table

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="shells and /dev of POSIX")


def shell(line: str, **extra: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a shell command line in which ``lottapack`` is the real command."""
    command = line.replace("lottapack", f"'{sys.executable}' -m lottapack_cli")
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=120, env={**os.environ, **extra})


@POSIX
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("lottapack inspect '{pack}' >&-", 0),
        ("lottapack inspect '{pack}' --json >&- 2>&-", 0),
        ("lottapack inspect '{pack}.none' 2>&-", 2),
        ("lottapack pack '{checkpoint}' -o '{folder}/a.lotta.safetensors' 2>&-", 0),
        ("lottapack --help >&-", 0),
    ],
)
def test_a_stream_that_is_closed_changes_nothing(line: str, code: int, files: Files, tmp_path: Path) -> None:
    found = shell(line.format(pack=files.pack, checkpoint=files.checkpoint, folder=tmp_path))
    assert (found.returncode, found.stderr) == (code, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lottapack inspect '{pack}' >/dev/full", b"error: cannot write to <stdout>: No space left on device\n"),
        ("lottapack --help >/dev/full", b"error: the system refused: No space left on device\n"),
        ("lottapack inspect '{pack}.none' 2>/dev/full", b""),
    ],
)
def test_a_stream_that_is_full(line: str, said: bytes, files: Files) -> None:
    found = shell(line.format(pack=files.pack))
    assert (found.returncode, found.stderr) == (2, said)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_an_encoding_cannot_say_is_escaped(encoding: str, files: Files, tmp_path: Path) -> None:
    pack = tmp_path / "\u2615 tea.lotta.safetensors"
    pack.write_bytes(files.pack.read_bytes())
    with start("inspect", pack, env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "400"}) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "\\u2615 tea.lotta.safetensors" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_narrow_terminal_cuts_no_figure(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    row = ("model.layers.0-31.self_attn.q_proj.weight", "4096 x 4096", "123,456,789", "0.0442")
    Output().show(table((">name", "shape", ">size", ">scale"), [row]))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    for cell in ("shape", "size", "scale", *row[1:]):
        assert cell in plain
    assert row[0] in re.sub(r"\s", "", plain)


@POSIX
@pytest.mark.parametrize("name", [b"caf\xe9", "$x$ \u2615 [b] \u65e5\u672c".encode(), b"long-" * 40])
def test_a_picture_of_a_pack_with_an_odd_name(name: bytes, run: Run, files: Files, tmp_path: Path) -> None:
    pack = tmp_path / os.fsdecode(name + b".lotta.safetensors")
    pack.write_bytes(files.pack.read_bytes())
    for picture in ("a.svg", "a.png"):
        assert run("report", pack, "--plot", tmp_path / picture).code == 0
