"""Interrupted commands and closed pipes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import Files, start
from extent import crossed

SLOW = """
import os, signal, sys, time

signal.signal(signal.SIGINT, signal.default_int_handler)

def slow(descriptor):
    print("writing", flush=True)
    for _ in range(1200):
        time.sleep(0.05)

os.fsync = slow
from lottapack_cli.app import main
sys.exit(main(sys.argv[1:]))
"""
"""A command whose disk takes a minute to flush; by then all bytes are in the temporary file.

It waits in small steps: a signal that arrives just before one of them is handled after it.
A shell's background job hands down an ignored SIGINT, which Python would go on ignoring.
"""


ENDS = [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]


@pytest.mark.parametrize(("command", "end"), crossed(["pack", "export"], ENDS))
def test_an_interrupted_write_keeps_the_old_file(
    command: str, end: tuple[signal.Signals, int], files: Files, tmp_path: Path
) -> None:
    number, code = end
    out = tmp_path / "out.safetensors"
    out.write_text("old")
    source = files.checkpoint if command == "pack" else files.pack
    line = [sys.executable, "-c", SLOW, command, str(source), "-o", str(out)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert out.read_text() == "old"
    if number == signal.SIGINT:
        assert err == "error: interrupted\n"
        assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_an_interruption_while_it_is_imported() -> None:
    """Interrupt the command right after its start."""
    interrupted = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Slow:
    def find_spec(self, name, *_):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Slow())
runpy.run_module("lottapack_cli", run_name="__main__")
"""
    found = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=300)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("line", [["inspect"], ["inspect", "--json"]])
def test_an_interruption_that_a_library_drops(line: list[str], files: Files) -> None:
    """Interrupt an import that goes on: what fails afterwards is no fault of the command."""
    interrupted = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Careless:
    def find_spec(self, name, *_):
        if name == "lottapack.reports.inspection":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RecursionError("half imported")

sys.meta_path.insert(0, Careless())
runpy.run_module("lottapack", run_name="__main__")
"""
    command = [sys.executable, "-c", interrupted, *line, str(files.pack)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (found.returncode, found.stderr) == (130, "error: interrupted\n")
    assert [json.loads(one)["error"]["kind"] for one in found.stdout.splitlines()] == ["Interrupted"][: len(line) - 1]


@pytest.mark.parametrize("line", [["inspect"], ["inspect", "--json"], ["report", "--markdown"]])
def test_a_reader_that_went_away(line: list[str], files: Files) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*line, files.pack, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output(files: Files) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("inspect", files.pack, stdout=full)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err.startswith("error: cannot write to <stdout>: No space left")
