"""The pages of the specification: links, headings, the terms for refusals."""

import re

import pytest
from spec_files import SPEC, V1, files

PAGES = sorted(SPEC.rglob("*.md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def broken_links(page, text):
    targets = [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]
    return [target for target in targets if not (page.parent / target.partition("#")[0]).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(SPEC).as_posix())
def test_links_resolve(page):
    assert not broken_links(page, page.read_text("utf-8"))


def test_a_broken_link_is_found():
    assert broken_links(SPEC / "README.md", "[no](v1/nowhere.md) [yes](v1/stream.md)") == ["v1/nowhere.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(SPEC).as_posix())
def test_sections_that_are_cited_exist(page):
    """A citation such as ``[container.md](container.md), section 4`` names an existing section."""
    text = " ".join(page.read_text("utf-8").split())
    for target, number in re.findall(r"\]\(([\w./-]+\.md)\),? section (\d+)", text):
        cited = (page.parent / target).read_text("utf-8")
        assert f"\n## {number}. " in cited, f"{page.name} cites section {number} of {target}"


def kinds_by_section():
    text = (V1 / "refusals.md").read_text("utf-8")
    found = {}
    for section in re.split(r"^## \d+\. ", text, flags=re.MULTILINE)[1:]:
        name = re.search(r"\(`(\w+)`\)", section.splitlines()[0])[1]
        cells = re.findall(r"^\|.*\| (`[^|]*`) \|$", section, re.MULTILINE)
        found[name] = {kind for cell in cells for kind in re.findall(r"`([\w-]+)`", cell)}
    found["limit"].add("limit")  # the one refusal without a table
    return found


@pytest.mark.parametrize("section", ["container", "descriptor", "agreement", "contents", "limit"])
def test_every_refusal_has_a_file_and_every_file_a_refusal(section):
    shown = {sidecar["kind"] for _, sidecar in files("invalid").values() if sidecar["section"] == section}
    assert shown == kinds_by_section()[section]
