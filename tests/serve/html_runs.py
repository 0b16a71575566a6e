"""Asking a registry as a browser does, and reading the pages that it sends."""

from collections.abc import Mapping
from html.parser import HTMLParser

from serve_runs import ROOT, Answer, add, ask, commit_body

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
VECTORS = ROOT / "spec" / "v1" / "vectors" / "files"
SUFFIX = ".lotta.safetensors"


def vector(name: str) -> bytes:
    return (VECTORS / f"{name}{SUFFIX}").read_bytes()


def visit(url: str, path: str, *, cookie: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """What a browser gets at an address that its user typed."""
    sent = {"Accept": ACCEPT, "Sec-Fetch-Site": "none", **({"Cookie": cookie} if cookie else {})}
    return ask(url, "GET", path, headers={**sent, **(headers or {})})


def fill(
    url: str, repo: str, files: Mapping[str, bytes], *, private: bool = False, token: str = "", title: str = "test"
) -> None:
    """Make a repository with files."""
    owner, name = repo.split("/")
    body = {"name": name, "organization": owner, "private": private}
    assert ask(url, "POST", "/api/repos/create", body, token=token).status in (200, 409)
    made = commit_body(*(add(path, content) for path, content in files.items()), title=title)
    answer = ask(url, "POST", f"/api/models/{repo}/commit/main", made, token=token)
    assert answer.status == 200, answer.body


class Page(HTMLParser):
    """What of a page could act: its elements with their attributes, and its text."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, attribute: str) -> list[str]:
        return [found[attribute] for name, found in self.elements if name == tag and attribute in found]

    def faults(self) -> list[str]:
        """Whatever could run, load or send something that is not the registry's own."""
        found = [
            f"<{tag}>" for tag, _ in self.elements if tag in ("style", "iframe", "object", "embed", "base", "math")
        ]
        found += [src for src in self.values("script", "src") if src != "/-/static/copy.js"]
        found += ["inline script" for tag, attributes in self.elements if tag == "script" and "src" not in attributes]
        found += [src for src in self.values("img", "src") if not src.startswith("/") or src.startswith("//")]
        found += [to for to in self.values("form", "action") if to not in ("/", "/-/sign-in", "/-/sign-out")]
        found += [to for to in self.values("link", "href") if not to.startswith(("/-/static/", "/-/web/page/"))]
        for tag, attributes in self.elements:
            found += [
                f"{tag} {name}" for name in attributes if name.startswith("on") or name in ("style", "srcset", "srcdoc")
            ]
        allowed = ("/", "?", "#", "http://", "https://", "mailto:")
        return found + [to for to in self.values("a", "href") if not to.startswith(allowed) or to.startswith("//")]
