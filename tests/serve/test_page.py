"""docs/serve.md: its commands run, and its protocol table matches the server."""

import os
import re
import subprocess
import sys
from pathlib import Path

from serve_runs import ROOT, command, files_in
from starlette.routing import Route

from lottapack_serve.html.rendering import PageRoute
from lottapack_serve.limits import PATH_BYTES, SEGMENT_BYTES, Limits
from lottapack_serve.routes import account, commit, models, pages, refs, repos, resolve, sign_in

PAGE = (ROOT / "docs" / "serve.md").read_text("utf-8")
MODULES = (account, commit, models, pages, refs, repos, resolve)


def test_the_commands_run_from_top_to_bottom(tmp_path: Path) -> None:
    lines = [
        line for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert all(line.startswith("$ ") for line in lines)
    script = [line.removeprefix("$ ") for line in lines]
    assert script.pop(0) == "lottapack serve --root ./registry --port 8780"
    (tmp_path / "notes.md").write_text("---\nlicense: mit\n---\n# Notes\n")
    with command(tmp_path / "registry") as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment["HF_HOME"] = str(tmp_path / "home")
        text = "\n".join(["set -ex", *script]).replace("http://127.0.0.1:8780", server.url)
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert len(files_in(tmp_path / "registry")) == 1
    assert "1 blob" in done.stdout and "alice" in done.stdout


def test_the_protocol_is_the_servers() -> None:
    told = set(re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`]*)`", PAGE))
    served = {
        f"{method} {route.path.replace(':path', '')}"
        for module in MODULES
        for route in module.ROUTES
        if isinstance(route, Route) and not isinstance(route, PageRoute)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert told == served


def test_the_pages_are_the_servers() -> None:
    table = PAGE.partition("## Pages")[2].partition("## ")[0]
    told = set(re.findall(r"`(/[^`]*)`", table))
    routes = [*pages.ROUTES, *sign_in.ROUTES]
    served = {route.path.replace(":path", "") for route in routes if isinstance(route, PageRoute)}
    assert told == served | {"/-/web/index.html", "/-/web/run.html"}


def test_the_limits_are_the_servers() -> None:
    limits = Limits()
    for words in (
        f"{limits.file_bytes // 10**9} GB (`--max-file-bytes`)",
        f"{limits.commit_bytes // 10**9} GB (`--max-commit-bytes`), {limits.commit_files:,} files",
        f"{PATH_BYTES:,} bytes, {SEGMENT_BYTES} between slashes",
        f"{limits.body_bytes // 2**20} MiB",
    ):
        assert words in PAGE
