"""The command ``lottapack serve`` and its subcommands."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serve_runs import ROOT, add, ask, command, commit_body, files_in

from lottapack_cli.app import main
from lottapack_serve import background, tokens

UNLIMITED = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
"""Without the width that pytest's import of readline hands to child processes, at which lines would be broken."""


@contextmanager
def started(root: Path, *options: str) -> "Iterator[subprocess.Popen[str]]":
    """Run the real command; end it with the block, also when a check fails."""
    arguments = [sys.executable, "-m", "lottapack_cli", "serve", "--root", str(root), "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, env=UNLIMITED, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def push(url: str) -> None:
    assert ask(url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"}).status == 200
    body = commit_body(add("a", b"x" * 100_000))
    assert ask(url, "POST", "/api/models/org/digits/commit/main", body).status == 200


def test_people_see_where_it_is_what_is_asked_and_that_it_stopped(tmp_path):
    with started(tmp_path / "registry") as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(5)]
        url = lines[0].split()[-1]
        assert lines[0] == f"serving {tmp_path / 'registry'} at {url}\n"
        assert lines[1] == "no tokens: every program on this machine may read and write\n"
        assert lines[2] == f"use it with: export HF_ENDPOINT={url}\n"
        push(url)
        ask(url, "GET", "/org/digits/resolve/main/a")
        ask(url, "GET", "/api/%1b[31m")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    log = [line.split() for line in out.splitlines()]
    assert [line[:3] for line in log[:-1]] == [
        ["POST", "/api/repos/create", "200"],
        ["POST", "/api/models/org/digits/commit/main", "200"],
        ["GET", "/org/digits/resolve/main/a", "200"],
        ["GET", "/api/%1b[31m", "404"],
    ]
    assert (log[1][3:6], log[2][3:6], log[-1]) == (["133", "kB", "in"], ["100", "kB", "out"], ["stopped"])
    assert (process.returncode, err) == (0, "")


def test_scripts_get_one_object(tmp_path):
    text = tokens.add(tmp_path / "registry", "al")
    with started(tmp_path / "registry", "--json", "--no-anonymous-read") as process:
        assert process.stdout
        told = json.loads(process.stdout.readline())
        assert told.keys() == {"ok", "url", "root", "anonymous_read", "tokens", "warnings"}
        assert (told["ok"], told["root"]) == (True, str(tmp_path / "registry"))
        assert (told["anonymous_read"], told["tokens"]) == (False, 1)
        assert ask(told["url"], "GET", "/api/models").status == 401
        assert ask(told["url"], "GET", "/api/models", token=text).status == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=300) == ("", "")
    assert process.returncode == 0


def test_limits_can_be_set(tmp_path):
    with command(tmp_path / "registry", "--max-file-bytes", 100, "--max-commit-bytes", 150) as server:
        ask(server.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        path = "/api/models/org/digits/commit/main"
        assert ask(server.url, "POST", path, commit_body(add("a", b"x" * 101))).error == (413, "")
        body = commit_body(add("a", b"x" * 100), add("b", b"x" * 51))
        assert ask(server.url, "POST", path, body).error == (413, "")
        assert ask(server.url, "POST", path, commit_body(add("a", b"x" * 100))).status == 200


def test_requests_in_progress_end_first(tmp_path):
    """Ctrl-C during a push: it completes, or is dropped after the grace period; nothing partial remains."""
    with command(tmp_path / "registry") as server:
        push(server.url)
        before = files_in(tmp_path / "registry")
        host, port = server.url.removeprefix("http://").split(":")
        with subprocess.Popen([sys.executable, "-c", HALF, host, port], stdout=subprocess.PIPE, text=True) as half:
            assert half.stdout and half.stdout.readline() == "half\n"
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(timeout=300) == 0
            out, _ = half.communicate(timeout=300)
        assert out.startswith("HTTP/1.1 503")
        assert files_in(tmp_path / "registry") == before


HALF = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
head = "POST /api/models/org/digits/commit/main HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 9000000", "", ""
connection.sendall("\\r\\n".join(head).encode())
connection.sendall(b'{"key":"header","value":{"summary":"s"}}\\n{"key":"file","value":{"content":"' + b"A" * 2_000_000)
print("half", flush=True)
print(connection.recv(1000).decode())
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_tokens(tmp_path, capsys):
    root = tmp_path / "registry"
    code, out, err = run(capsys, "serve", "token", "add", "al", "--write", "--root", root)
    text = out.split("HF_TOKEN=")[1].strip()
    assert (code, err, out.splitlines()[0]) == (0, "", "al may write")
    code, quiet, _ = run(capsys, "serve", "token", "add", "bo", "--root", root, "--quiet")
    told = json.loads(run(capsys, "serve", "token", "add", "cy", "--root", root, "--json")[1])
    assert (told["name"], told["rights"]) == ("cy", "read")
    # The folder may precede the command.
    code, out, _ = run(capsys, "serve", "--root", root, "token", "list")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["al", "write"], ["bo", "read"], ["cy", "read"]]
    with command(root) as server:
        roles = [
            ask(server.url, "GET", "/api/whoami-v2", token=token).json["auth"]["accessToken"]["role"]
            for token in (text, quiet.strip(), told["token"])
        ]
        assert roles == ["write", "read", "read"]
        assert run(capsys, "serve", "token", "remove", "al", "--root", root)[:2] == (0, "removed the token of al\n")
        assert ask(server.url, "GET", "/api/whoami-v2", token=text).status == 401
    assert json.loads(run(capsys, "serve", "token", "list", "--root", root, "--json")[1])["tokens"][0]["name"] == "bo"
    for name in ("bo", "cy"):
        run(capsys, "serve", "token", "remove", name, "--root", root)
    assert run(capsys, "serve", "token", "list", "--root", root)[1] == "no tokens\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["token", "list"], 2, "does not contain a registry"),
        (["token", "remove", "al"], 2, "does not contain a registry"),
        (["check"], 2, "does not contain a registry"),
        (["token", "add", "a/b"], 2, "cannot be the name"),
        (["--host", "0.0.0.0"], 3, "serve token add NAME --write"),
        (["--port", "70000"], 2, "65535"),
        (["--verbose", "check"], 2, "--verbose is an option of the server"),
        (["--port", "1", "token", "list"], 2, "after `token`, name those of that command"),
        (["--port", "0", "--host", "192.0.2.7"], 3, "serve token add NAME --write"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said_with_the_next_step(tmp_path, capsys, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    got, out, err = run(capsys, "serve", *arguments)
    assert (got, out) == (code, "")
    assert words in err
    assert len(err.strip().splitlines()) >= 2


def test_a_port_that_is_taken(tmp_path, capsys):
    with command(tmp_path / "one") as server:
        port = server.url.rpartition(":")[2]
        code, _, err = run(capsys, "serve", "--root", tmp_path / "two", "--port", port)
        assert (code, f"cannot listen on 127.0.0.1, port {port}" in err) == (3, True)
        code, _, err = run(capsys, "serve", "--root", tmp_path / "one", "--port", "0")
        assert (code, "another process already serves" in err) == (2, True)


def test_one_process_serves_a_folder_by_whatever_name(tmp_path, capsys):
    """The lock ends with its process, also by kill -9; until then no other process serves."""
    root = tmp_path / "one"
    with command(root) as server:
        push(server.url)
        (tmp_path / "link").symlink_to(root)
        for name in (root, tmp_path / "link", tmp_path / "link" / "." / ".." / "one"):
            code, _, err = run(capsys, "serve", "--root", name, "--port", "0")
            assert (code, "another process already serves" in err) == (2, True)
        # Other commands may run beside it.
        assert run(capsys, "serve", "token", "add", "al", "--root", root)[0] == 0
        assert run(capsys, "serve", "check", "--root", root)[0] == 0
        port = int(server.url.rpartition(":")[2])
        server.kill()
    with command(root, port=port) as server:
        assert ask(server.url, "GET", "/org/digits/resolve/main/a").body == b"x" * 100_000


def test_further_names_of_the_host(tmp_path):
    with command(tmp_path / "registry", "--allow-host", "box.example", "--allow-host", "other") as server:
        statuses = [ask(server.url, "GET", "/api/models", headers={"Host": host}).status
                    for host in ("box.example", "other:1", "localhost", "evil.example")]  # fmt: skip
        assert statuses == [200, 200, 200, 403]


def test_check(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    root = tmp_path / "registry"
    with command(root) as server:
        push(server.url)
        assert run(capsys, "serve", "check", "--root", root)[:2] == (0, "1 blob, 100 kB: none damaged\n")
        [name] = files_in(root)
        (root / name).write_bytes(b"y" * 100_000)
        code, out, err = run(capsys, "serve", "check", "--root", root)
        assert (code, err) == (1, "")
        assert out.splitlines() == [f"changed  {Path(name).name}  org/digits: a", "1 blob, 100 kB: 1 damaged"]
        code, out, _ = run(capsys, "serve", "check", "--root", root, "--json")
        assert (code, json.loads(out)["damaged"][0]["fault"]) == (1, "changed")
        assert run(capsys, "serve", "check", "--root", root, "--quiet") == (1, "", "")


def test_without_the_extra_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['starlette'] = None; from lottapack_cli.app import main; sys.exit(main())"
    arguments = [sys.executable, "-c", code, "serve", "--root", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "pip install 'lottapack[serve]'" in done.stderr


def test_tokens_need_no_server_and_help_needs_nothing():
    code = "import sys; from lottapack_cli.app import main; main(['serve', '--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True, cwd=ROOT
    )
    assert {"starlette", "uvicorn", "sqlite3", "torch", "yaml"} & set(done.stdout.split()) == set()
    code = "import sys; import lottapack_serve.tokens; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True, cwd=ROOT
    )
    assert {"starlette", "uvicorn", "torch", "yaml"} & set(done.stdout.split()) == set()


def test_what_is_refused_leaves_nothing(tmp_path, capsys):
    assert main(["serve", "--host", "0.0.0.0", "--root", str(tmp_path / "new")]) == 3
    assert "the registry in" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    served = tmp_path / "served"
    with background(served):
        pass
    assert main(["serve", "backup", str(tmp_path / "file"), "--root", str(served)]) == 2
    assert main(["serve", "restore", str(served), "--root", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"file", "served"}
    assert (tmp_path / "file").read_text() == "mine"
