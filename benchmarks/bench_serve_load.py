"""Measure response times of ``lottapack serve`` under 50 readers and 8 writers.

``python benchmarks/bench_serve_load.py [--repos N] [--files N] [--readers N] [--writers N] [--seconds N] [--source DIR]
[--root DIR] [--json]``

The registry holds 1,000 repositories of 100 files each. Every reader and writer keeps one connection and sends the next
request as soon as it has an answer. They are threads of this process; the server has its own, on the same machine.
Filling the registry takes a minute or two on a disk that needs a millisecond to flush. ``--root`` keeps and reuses a
filled registry. ``--source`` measures the server of another checkout.
"""

import argparse
import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

JSON = {"Content-Type": "application/json"}


class Asking:
    """A kept connection. ask() returns the body of an answer, which must be a success."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection = http.client.HTTPConnection(address, timeout=120)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send one request; retry once if the server has closed the connection."""
        for last in (False, True):
            try:
                self._connection.request(method, path, body, JSON if body else {})
                answer = self._connection.getresponse()
                content = answer.read()
                break
            except (http.client.HTTPException, OSError):
                self._connection.close()
                self._connection = http.client.HTTPConnection(self._address, timeout=120)
                if last:
                    raise
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return content


@contextmanager
def serving(root: Path, source: Path | None) -> Iterator[tuple[int, str]]:
    """Start the server in its own process; return its process id and address."""
    environment = dict(os.environ)
    if source:
        environment["PYTHONPATH"] = os.pathsep.join(str(source / name) for name in (".", "cli"))
    command = [sys.executable, "-m", "lottapack_cli", "serve", "--root", str(root), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=source) as server:
        try:
            assert server.stdout
            yield server.pid, json.loads(server.stdout.readline())["url"].removeprefix("http://")
        finally:
            server.terminate()


def memory(process: int) -> float:
    """Return the peak resident set of a process, in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("this system does not tell the memory of a process")


def commit_body(files: dict[str, bytes]) -> bytes:
    """Return the lines of a commit."""
    lines: list[object] = [{"key": "header", "value": {"summary": "bench", "description": ""}}]
    for path, content in files.items():
        value = {"path": path, "encoding": "base64", "content": base64.b64encode(content).decode()}
        lines.append({"key": "file", "value": value})
    return b"\n".join(json.dumps(line).encode() for line in lines)


def fill(address: str, repos: int, files: int) -> None:
    """Make the repositories: a card and small files, whose contents repeat between repositories."""
    body = {f"folder{number % 10}/file{number}": f"{number}".encode() for number in range(files - 1)}

    def one(number: int) -> None:
        asking = Asking(address)
        name = {"organization": f"owner{number % 50}", "name": f"repo{number}"}
        asking.ask("POST", "/api/repos/create", json.dumps(name).encode())
        card = f"---\ntags: [all, tag{number % 100}]\nlicense: mit\n---\n# {number}\n".encode()
        path = f"/api/models/owner{number % 50}/repo{number}/commit/main"
        asking.ask("POST", path, commit_body({"README.md": card, **body}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(repos)))


def questions(repos: int, files: int) -> dict[str, Callable[[random.Random], str]]:
    """Return the readers' requests, by name."""

    def repo(draw: random.Random) -> str:
        number = draw.randrange(repos)
        return f"owner{number % 50}/repo{number}"

    def file(draw: random.Random) -> str:
        number = draw.randrange(files - 1)
        return f"folder{number % 10}/file{number}"

    return {
        "listing, 20 of all": lambda _: "/api/models?limit=20",
        "listing by tag": lambda draw: f"/api/models?filter=tag{draw.randrange(100)}",
        "info": lambda draw: f"/api/models/{repo(draw)}",
        "tree": lambda draw: f"/api/models/{repo(draw)}/tree/main",
        "resolve": lambda draw: f"/{repo(draw)}/resolve/main/{file(draw)}",
    }


def measure(address: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of every request that began within the measured time, by name."""
    taken: dict[str, list[float]] = defaultdict(list)
    asked = questions(options.repos, options.files)
    faults: list[BaseException] = []
    begin = time.monotonic()
    end = begin + options.seconds

    def read(number: int) -> None:
        draw, asking = random.Random(number), Asking(address)
        while time.monotonic() < end:
            name = draw.choice(list(asked))
            start = time.perf_counter()
            asking.ask("GET", asked[name](draw))
            taken[name].append(time.perf_counter() - start)

    def write(number: int) -> None:
        asking, count = Asking(address), 0
        path = f"/api/models/owner{number % 50}/repo{number}/commit/main"
        while time.monotonic() < end:
            body = commit_body({f"written{count % 5}": f"{number} {count} {begin}".encode()})
            start = time.perf_counter()
            asking.ask("POST", path, body)
            taken["commit"].append(time.perf_counter() - start)
            count += 1

    def guarded(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=guarded, args=(read, number)) for number in range(options.readers)]
    threads += [threading.Thread(target=guarded, args=(write, number)) for number in range(options.writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError("a client failed") from faults[0]
    return taken


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("repos", 1000), ("files", 100), ("readers", 50), ("writers", 8), ("seconds", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = (options.root or Path(folder, "registry")).absolute()
        filled = 0.0
        if not (root / "registry.sqlite3").exists():
            with serving(root, options.source) as (_, address):
                begin = time.monotonic()
                fill(address, options.repos, options.files)
                filled = time.monotonic() - begin
        begin = time.monotonic()
        with serving(root, options.source) as (process, address):
            started = time.monotonic() - begin
            idle = memory(process)
            taken = measure(address, options)
            most = memory(process)
    result = {
        "filled": filled, "started": started, "idle": idle, "most": most,
        "taken": {
            name: {
                "count": len(seconds),
                "median": statistics.median(seconds),
                "p99": sorted(seconds)[min(len(seconds) - 1, len(seconds) * 99 // 100)],
            }
            for name, seconds in taken.items()
        },
    }  # fmt: skip
    if options.json:
        print(json.dumps(result))
        return
    print(f"lottapack serve, {options.repos:,} repositories of {options.files} files, {options.readers} readers beside "
          f"{options.writers} writers, {options.seconds} s")  # fmt: skip
    print(f"  filled in {filled:.0f} s, started in {started:.1f} s; memory {idle:.0f} MB, at most {most:.0f} MB")
    for name, one in sorted(result["taken"].items()):
        median, most = one["median"] * 1e3, one["p99"] * 1e3
        print(f"  {name:20} {one['count']:7,} requests   median {median:9.1f} ms   99 % {most:9.1f} ms")


if __name__ == "__main__":
    main()
