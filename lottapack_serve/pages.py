"""The pages that verify and run packs in a browser: static files, and the headers that they are served with."""

from pathlib import Path
from typing import Final

HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "max-age=60",
    "Referrer-Policy": "no-referrer",
}
"""Headers of each answer. Browsers give threads only to pages that are isolated from other sites, and a worker has the
policy of its own answer, not that of the page."""

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
"""The content type of each kind of file; a server serves no other kind from the folder."""


def folder() -> Path:
    """Return the folder of the pages: in a wheel beside this module, in a checkout ``spec/js``."""
    packaged = Path(__file__).with_name("web")
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "spec" / "js"
