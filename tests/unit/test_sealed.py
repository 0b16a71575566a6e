"""While a library builds what a stranger's pack describes, it reaches no other machine."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from lottapack import ArchitectureError
from lottapack.arch.sealed import sealed


@pytest.fixture
def server() -> Iterator[tuple[str, int, list[str]]]:
    """A machine that anyone could ask, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield "127.0.0.1", found.server_port, asked
    found.shutdown()
    found.server_close()
    thread.join(30)


def test_this_thread_reaches_nobody_and_others_do(server: tuple[str, int, list[str]]) -> None:
    where = server[:2]
    reached = []

    def other() -> None:
        with socket.create_connection(where, 30):
            reached.append(True)

    with sealed():
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
        thread = threading.Thread(target=other)
        thread.start()
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


def test_a_library_that_does_without(server: tuple[str, int, list[str]]) -> None:
    with sealed(), pytest.raises(ArchitectureError):
        socket.create_connection(server[:2], 30)
    assert server[2] == []


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
    """The library would ask the Hub whether there is such a repository, with the caller's token."""
    pytest.importorskip("transformers")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server[1]}", "TRANSFORMERS_VERBOSITY": "error"}
    line = [sys.executable, "-c", BUILD]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "building this architecture would use the network\n" * 2
    assert server[2] == []
