"""A library that builds a stranger's architecture cannot reach other machines."""

import ctypes
import http.server
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from lottapack.arch.sealed import sealed
from lottapack.arch.trust import allowing
from lottapack.errors import ArchitectureError


@pytest.fixture
def server() -> Iterator[tuple[str, int, list[str]]]:
    """A server, and the requests that it got."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield "127.0.0.1", found.server_port, asked
    found.shutdown()
    found.server_close()
    thread.join(30)


def test_this_thread_reaches_nobody_and_others_do(server: tuple[str, int, list[str]]) -> None:
    where = server[:2]
    reached, begin, done = [], threading.Event(), threading.Event()

    def other() -> None:
        begin.wait(30)
        with socket.create_connection(where, 30):
            reached.append(True)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(ArchitectureError, match="would use the network"), sealed():
        with pytest.raises(ArchitectureError, match="would use the network"):
            socket.create_connection(where, 30)
        with pytest.raises(ArchitectureError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"a", where)
        with pytest.raises(ArchitectureError):
            socket.getaddrinfo("example.org", 443)
        with sealed():
            pass
        with pytest.raises(ArchitectureError):
            socket.create_connection(where, 30)
        begin.set()
        assert done.wait(30)
    thread.join(30)
    assert reached == [True]
    socket.create_connection(where, 30).close()


def test_another_error_that_a_library_makes_of_it(server: tuple[str, int, list[str]]) -> None:
    with pytest.raises(ArchitectureError, match="would use the network") as caught, sealed():
        try:
            socket.create_connection(server[:2], 30)
        except ArchitectureError as fault:
            raise OSError("cannot be loaded") from fault
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(OSError, match="of its own"), sealed():
        raise OSError("of its own")


def test_a_library_that_goes_on_without(server: tuple[str, int, list[str]], tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="would use the network"), sealed():
        with suppress(Exception):
            socket.create_connection(server[:2], 30)
        done = True
    assert done
    assert server[2] == []
    with pytest.raises(ArchitectureError, match=f"would open the file {tmp_path}/a"), sealed(), suppress(Exception):
        (tmp_path / "a").read_bytes()
    with sealed():  # forget the attempts
        pass


PICKLED = pickle.dumps(Path("a"))


def swallowed(act: Callable[[], object]) -> str:
    """Return the block's error after an attempt whose own error was caught, or None."""
    try:
        with sealed(), suppress(Exception):
            act()
    except ArchitectureError as fault:
        return fault.message.removeprefix("building this architecture would ")
    return ""


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda f: (f / "a.pt").open("rb").close(), "open the file"),
        (lambda f: os.close(os.open(f / "a.pt", os.O_RDONLY)), "open the file"),
        (lambda f: torch.load(f / "a.pt", weights_only=False), "open the file"),
        (lambda f: np.load(f / "a.pt"), "open the file"),
        (lambda f: (f / "new").write_text("x"), "write to"),
        (lambda f: (f / "a.pt").unlink(), "change"),
        (lambda f: (f / "a.pt").rename(f / "b.pt"), "change"),
        (lambda f: (f / "folder").mkdir(), "change"),
        (lambda f: tempfile.mkdtemp(), "change"),
        (lambda f: os.listdir(f), "list the folder"),  # noqa: PTH208
        (lambda f: list(f.iterdir()), "list the folder"),
        (lambda f: Path("/etc/passwd").read_text("utf-8"), "open the file"),
        (lambda f: (Path(torch.__file__).parent / "../../../../../../../../etc/passwd").read_text(), "open the file"),
        (lambda f: subprocess.run(["true"], check=False), "start or end a process"),
        (lambda f: os.system("true"), "start or end a process"),
        (lambda f: os.fork() or os._exit(0), "start or end a process"),
        pytest.param(
            lambda f: threading.Thread(target=print).start(),
            "start a thread",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python says so from 3.12 on"),
        ),
        (lambda f: pickle.loads(PICKLED), "unpickle an object"),
        (lambda f: ctypes.CDLL(str(f / "a.pt")), "load the library"),
        (lambda f: sqlite3.connect(f / "a.db"), "open a database"),
        (lambda f: input(), "ask for input"),
    ],
)  # fmt: skip
def test_what_a_sealed_thread_does_not_do(act: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    torch.save({"x": 1}, tmp_path / "a.pt")
    assert swallowed(lambda: act(tmp_path)).startswith(words)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_what_a_sealed_thread_may_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages read their own files, and are imported, wherever they lie."""
    folder = tmp_path / "sealed_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from pathlib import Path\nTEXT = Path(__file__).parent / 'data.txt'\n", "utf-8"
    )
    (folder / "data.txt").write_text("x", "utf-8")
    (tmp_path / "sealed_module.py").write_text("import pathlib\npathlib.Path(__file__).read_bytes()\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with sealed():
        Path(torch.__file__).read_bytes()
        Path("/dev/null").read_bytes()
        assert import_module("sealed_package").TEXT.read_text("utf-8") == "x"
        import_module("sealed_module")
        version("torch")
        with pytest.raises(FileNotFoundError):
            subprocess.run(["ninja", "--version"], check=False)
        ctypes.CDLL(None)
    with pytest.raises(ArchitectureError, match="open the file"), sealed():
        (tmp_path / "sealed_module.py").read_bytes()


BUILD = """
import sys
from lottapack import arch, errors
from lottapack.format.descriptor import Architecture
for name, kind in (("UperNetForSemanticSegmentation", "upernet"), ("Mask2FormerModel", "mask2former")):
    config = {"model_type": kind, "backbone": "someone/backbone"}
    try:
        arch.build(Architecture(family="transformers", class_=name, config=config))
    except errors.ArchitectureError as error:
        print(error.message)
"""


def test_a_configuration_that_names_a_backbone_of_a_hub(server: tuple[str, int, list[str]]) -> None:
    """The library would ask the Hub for such a repository, with the caller's token."""
    pytest.importorskip("transformers")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server[1]}", "TRANSFORMERS_VERBOSITY": "error"}
    line = [sys.executable, "-c", BUILD]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2
    assert all(line.startswith("building this architecture would ") for line in said)
    assert server[2] == []


def test_a_trusted_package_may_write_a_module_of_its_own_and_import_it() -> None:
    """torch_geometric writes its layers' code to files. Existing files stay closed."""
    there = Path(tempfile.gettempdir(), "there_before.txt")
    there.write_text("private")
    with allowing("anything"), sealed():
        with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as made:
            made.write("VALUE = 7\n")
        spec = spec_from_file_location("made_here", made.name)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.VALUE == 7
    with pytest.raises(ArchitectureError, match="open the file"), allowing("anything"), sealed():
        there.read_text()
    with pytest.raises(ArchitectureError, match="write to"), allowing("anything"), sealed():
        there.write_text("changed")
    assert there.read_text() == "private"
    with pytest.raises(ArchitectureError, match=r"write to|change"), sealed(), tempfile.NamedTemporaryFile("w"):
        pass
    there.unlink()
    Path(made.name).unlink()


def test_files_open_until_the_process_ends() -> None:
    """Python clears the names of modules before it stops calling their audit hooks."""
    program = """
import os, sys
from lottapack.arch import sealed

with sealed.sealed():
    pass

class Late:
    def __del__(self, opened=open, name=os.devnull, write=os.write, names=sealed._hook.__globals__):
        opened(name).close()
        write(1, b"opened" if names["_thread"] is None else b"too early")

sys.late, sys.kept = Late(), sealed
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "opened"
