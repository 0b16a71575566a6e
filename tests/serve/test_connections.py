"""Idle and slow connections end and make room for others."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest
from serve_runs import add, ask, command, commit_body

from lottapack_serve import background, connections, traffic
from lottapack_serve.connections import Capacity

REPO = "/api/models/org/digits"
HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "


@contextlib.contextmanager
def connected(url: str, begin: bytes = b"") -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        connection.sendall(begin)
        yield connection


def ended(connection: socket.socket, seconds: float) -> bool:
    """Return whether the server ends a connection in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(2**16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def test_a_head_that_does_not_come_ends_the_connection(registry, monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 0.5)
    whole = b"GET /api/agent-harnesses HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for begin in (b"", HALF, whole + HALF):
        with connected(registry.url, begin) as connection:
            assert ended(connection, 10), begin
    # An occasional byte does not extend the limit.
    with connected(registry.url) as connection:
        with contextlib.suppress(ConnectionError):
            for number in range(1000):
                connection.sendall(HALF[number % len(HALF) :][:1].replace(b"\r", b"a").replace(b"\n", b"b"))
                time.sleep(0.1)
        assert number < 100


def test_the_limit_is_of_heads_not_of_work(registry, monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 0.2)
    monkeypatch.setattr(traffic, "SILENCE", 5)
    body = commit_body(add("a", os.urandom(300_000)))
    head = f"POST {REPO}/commit/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(registry.url, head.encode()) as connection:
        for at in range(0, len(body), 100_000):
            connection.sendall(body[at : at + 100_000])
            time.sleep(0.6)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [1_000, 600_000, 30_000_000])
def test_an_answer_that_is_not_read_ends_the_connection(tmp_path, monkeypatch, size):
    monkeypatch.setattr(connections, "ANSWER", 0.5)
    monkeypatch.setattr(connections, "HEAD", 0.5)
    log = []
    with background(tmp_path / "registry", log=log.append) as running:
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        assert ask(running.url, "POST", f"{REPO}/commit/main", commit_body(add("a", os.urandom(size)))).status == 200
        host, port = running.url.removeprefix("http://").split(":")
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            slow.sendall(b"GET /org/digits/resolve/main/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            end = time.monotonic() + 20
            while len(log) < 3:
                assert time.monotonic() < end
                time.sleep(0.05)
            time.sleep(2.5)
            got = 0
            with contextlib.suppress(ConnectionError):
                while piece := slow.recv(2**20):
                    got += len(piece)
            assert size < 100_000 or got < 10_000_000
        assert ask(running.url, "GET", "/org/digits/resolve/main/a").status == 200


def test_a_body_that_trickles_counts_as_gone(registry, monkeypatch):
    """A body must arrive at a minimum rate; a byte before each timeout is not enough."""
    monkeypatch.setattr(traffic, "SILENCE", 1)
    body = commit_body(add("a", b"x" * 1000))
    head = f"POST {REPO}/commit/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(registry.url, head.encode()) as connection:
        with contextlib.suppress(ConnectionError):
            for at in range(200):
                connection.sendall(body[at : at + 1])
                time.sleep(0.2)
        assert at < 100
    assert ask(registry.url, "POST", f"{REPO}/commit/main", body).status == 200


def test_beyond_the_limit_the_one_that_waited_longest_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(Capacity, "of_process", classmethod(lambda cls: cls(5, 4, 16)))
    with background(tmp_path / "registry") as running, contextlib.ExitStack() as stack:
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        idle = [stack.enter_context(connected(running.url, HALF * (number % 2))) for number in range(12)]
        for _ in range(3):
            assert ask(running.url, "GET", REPO).status == 200
        assert all(ended(one, 5) for one in idle[:7])
        # Busy connections are never closed; if all are busy, a new one is told to retry.
        body = commit_body(add("a", b"x" * 100_000))
        head = f"POST {REPO}/commit/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        busy = [stack.enter_context(connected(running.url, head.encode())) for _ in range(5)]
        for one in busy:
            one.sendall(body[:50])
        time.sleep(1)  # until their heads are read
        for _ in range(3):
            answer = ask(running.url, "GET", REPO)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        for one in busy:
            one.sendall(body[50:])
            assert one.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")  # noqa: PTH110
def test_few_file_descriptors_are_enough_whoever_holds_connections(tmp_path):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(command(tmp_path / "registry", descriptors=64))
        assert ask(server.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"}).status == 200
        for number in range(80):
            stack.enter_context(connected(server.url, HALF * (number % 2)))
        for number in range(5):
            body = commit_body(add(f"{number}", b"x"), add("b", b"y"))
            assert ask(server.url, "POST", f"{REPO}/commit/main", body).status == 200
            assert ask(server.url, "GET", f"/org/digits/resolve/main/{number}").body == b"x"


def test_capacity_leaves_descriptors(monkeypatch):
    for free in (20, 40, 100, 1000, 10**5):
        monkeypatch.setattr(connections, "_free_descriptors", lambda free=free: free)
        found = Capacity.of_process()
        assert 4 * found.threads + 2 * found.connections + 2 * found.backlog <= free
        assert found.connections >= 1
