"""A browser for the pages of spec/js, and servers for their folder."""

import functools
import http.server
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsers import chromium
from js_runs import JS

from lottapack_serve import pages


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class _Registry(_Quiet):
    """The pages at /web/ with their headers, and files of a folder beside them, as a registry has them."""

    protocol_version = "HTTP/1.1"
    extensions_map = {**pages.TYPES, "": "application/octet-stream"}  # noqa: RUF012 - of the standard library

    def __init__(self, *arguments, files: Path, headers: dict[str, str], **options):
        self.files, self.headers_of_pages = files, headers
        super().__init__(*arguments, **options)

    def translate_path(self, path):
        name = urlsplit(path).path
        if name.startswith("/web/"):
            return str(pages.folder() / name.removeprefix("/web/"))
        return str(self.files / name.removeprefix("/").replace("/resolve/main/", "/"))

    def end_headers(self):
        for name, value in self.headers_of_pages.items() if self.path.startswith("/web/") else ():
            self.send_header(name, value)
        super().end_headers()


@pytest.fixture(scope="module")
def browser():
    """Chromium of this machine, for one file: while it runs, this thread has a running event loop."""
    with chromium() as launched:
        yield launched


@contextmanager
def serving(handler):
    """Serve on a free port, and yield the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True  # a connection that a browser keeps open ends with the test
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def address():
    """The address of the pages, served as the README says."""
    with serving(functools.partial(_Quiet, directory=str(JS))) as found:
        yield found


@pytest.fixture(scope="session")
def registry():
    """A function of a folder of models and of the pages' headers: a context with the address of a server of both."""

    def of(files: Path, headers: dict[str, str] = pages.HEADERS):
        return serving(functools.partial(_Registry, files=files, headers=headers))

    return of


@pytest.fixture
def page(browser, address):
    """The page that shows packs, opened; what it logs, throws or asks of other servers fails the test."""
    with watched(browser, address) as opened:
        opened.goto(address)
        yield opened


@contextmanager
def watched(browser, address, **options):
    """A page of a new context; what it logs, throws or asks of other servers fails the test."""
    context = browser.new_context(**options)
    faults = []
    opened = context.new_page()
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda request: request.url.startswith((address, "blob:")) or faults.append(request.url))
    yield opened
    context.close()
    assert faults == []


@pytest.fixture(scope="module")
def watch(browser):
    """The function ``watched`` over this browser."""
    return functools.partial(watched, browser)
