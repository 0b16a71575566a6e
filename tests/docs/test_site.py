"""The documentation site: built without warnings, complete, every link works."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import lottapack

ROOT = Path(__file__).parents[2]
BUILDER = ROOT / "docs" / "site" / "build.py"


class Page(HTMLParser):
    """Collects a page's links, loaded files, and anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given or (tag == "link" and given.get("rel") in ("stylesheet", "icon")):
            self.loaded.append(given.get("src") or given["href"])


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    pytest.importorskip("zensical")
    spec = importlib.util.spec_from_file_location("site_builder", BUILDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(builder: ModuleType) -> dict[Path, Page]:
    done = subprocess.run([sys.executable, BUILDER], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path) for path in builder.SITE.rglob("*.html")}


def local(page: Path, links: list[str]) -> Iterator[tuple[Path, str, str]]:
    """Return file, anchor and text of each link within the site."""
    for link in links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            yield (page.parent / unquote(parts.path)).resolve() if parts.path else page, unquote(parts.fragment), link


def test_every_link_leads_somewhere(site):
    lost = []
    for page, content in site.items():
        if page.name == "404.html":  # its links start at the site's root
            continue
        for target, place, link in local(page, [*content.links, *content.loaded]):
            known = site.get(target)
            if (
                not target.exists()
                or (target.is_dir() and not (target / "index.html").exists())
                or (place and known and place not in known.places)
            ):
                lost.append(f"{page.name}: {link}")
    assert not lost, "\n".join(lost)


def test_a_page_loads_nothing_from_elsewhere(site):
    for page, content in site.items():
        assert [link for link in content.loaded if urlsplit(link).netloc] == [], page


def test_each_page_of_the_repository_is_there(site, builder):
    pages = {path.relative_to(builder.SITE).with_suffix(".md").as_posix() for path in site}
    for pattern in builder.PAGES:
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT).as_posix()
            assert (name if not name.endswith("README.md") else name.replace("README", "index")) in pages


def test_the_reference_has_every_public_name(site, builder):
    names = [name for section in builder.public().values() for name in section]
    assert len(names) == len(set(names))
    shown = {name.rpartition(".")[2] for name in names}
    functions = {name for name in lottapack.__all__ if callable(getattr(lottapack, name))}
    assert functions <= shown
    places = site[builder.SITE / "docs" / "python.html"].places
    assert [name for name in names if name not in places] == []


def test_the_notebooks_are_pages_with_what_they_show(site, builder):
    text = (builder.SITE / "docs" / "notebooks" / "quickstart.html").read_text("utf-8")
    assert "digits.lotta.safetensors" in text and "<th>times this pack</th>" in text


def test_the_reference_has_every_command(site, builder):
    text = (builder.SITE / "docs" / "commands.html").read_text("utf-8")
    for command in (
        "pack",
        "inspect",
        "verify",
        "sign",
        "export",
        "report",
        "run",
        "push",
        "pull",
        "list",
        "log",
        "bench",
    ):
        assert f'id="lottapack-{command}"' in text
    assert "--coding" in text
