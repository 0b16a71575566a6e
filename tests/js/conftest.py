"""A browser for the page of spec/js, and a server of its folder."""

import functools
import http.server
import threading

import pytest
from browsers import chromium
from js_runs import JS


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def browser():
    """Chromium of this machine."""
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="session")
def address():
    """Serve the page as the README says; yield its address."""
    handler = functools.partial(_Quiet, directory=str(JS))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser, address):
    """Open the page; anything it logs, throws or requests from other servers fails the test."""
    context = browser.new_context()
    faults = []
    opened = context.new_page()
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda request: request.url.startswith((address, "blob:")) or faults.append(request.url))
    opened.goto(address)
    yield opened
    context.close()
    assert faults == []
