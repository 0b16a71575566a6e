"""Logging of the library and of the command."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Files, Run

import lottapack
from lottapack_cli.progress import Bar


def test_the_library_says_which_way_it_takes(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lottapack"):
        lottapack.load(files.pack)
    [record] = [record for record in caplog.records if record.name == "lottapack.loading.load"]
    assert "onto cpu, backbone materialised; weights by " in record.getMessage()


def test_nothing_is_printed_unless_asked(files: Files, run: Run) -> None:
    assert run("verify", files.pack).err == ""
    code = "import lottapack, sys, logging; logging.getLogger('lottapack.x').error('said'); lottapack.load(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, files.pack], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_verbose_shows_it_and_only_once(files: Files, run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        result = run("run", files.pack, "--tokens", "1", "-v")
        assert result.err.count("info: backbone materialised") == 1
    result = run("export", files.pack, "-o", tmp_path / "x", "--json", "-vv")
    assert result.out.startswith('{"ok": true')
    assert run("run", files.pack, "--tokens", "1").err.startswith("error: ")
    assert logging.getLogger("lottapack").level == logging.NOTSET


def test_the_bar_says_what_is_logged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    before = logging.getLogger("lottapack").handlers[:]
    with Bar("verifying", show=True):
        logging.getLogger("lottapack.arch").info("importing [a] library")
    assert "importing [a] library" in capsys.readouterr().err
    assert logging.getLogger("lottapack").handlers == before


def test_a_small_pack_is_verified_to_the_end(files: Files) -> None:
    seen: list[tuple[int, int]] = []
    lottapack.verify(files.pack, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(2, len(seen) + 2))
    assert seen[-1][0] == seen[-1][1]
