"""The registry's pages in Chromium: their look at two widths, light and dark; the keyboard; strangers' content."""

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from browsers import chromium
from extent import crossed
from html_runs import fill, vector
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serve_runs import ask
from test_html import HOSTILE, NAMES

from lottapack_serve import background
from lottapack_serve.server import Running

CARD = """---
license: mit
tags: [lottapack, vision]
---
# A card

| a | wide | table | with | many | columns | that | do | not | fit | into | a | narrow | screen |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| averylongwordwithoutanyspace | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 |

![plot](plot.png) ![remote](https://evil.example/pixel.png)

```
a line of code that is much longer than a narrow screen, so that its block scrolls and the page does not
```
"""


def picture() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (1600, 60), (79, 70, 229)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with background(tmp_path_factory.mktemp("filled") / "registry") as running:
        pack = {"model.lotta.safetensors": vector("valid/every_role")}
        fill(running.url, "org/digits", {**pack, "README.md": CARD.encode(), "plot.png": picture(), "a/b.txt": b"x"})
        odd = {"m.lotta.safetensors": vector("valid/unicode_names"), "README.md": HOSTILE.encode()}
        fill(running.url, "org/hostile", {**odd, **dict.fromkeys(NAMES, b"x")}, title="<b>\u202e" + "x" * 900)
        fill(running.url, "org/broken", {"m.lotta.safetensors": vector("invalid/descriptor_field_rank_float")})
        long = "a-name-of-the-greatest-length-that-a-repository-can-have".ljust(96, "e")
        fill(running.url, f"{long}/{long}", {"README.md": b"---\ntags: [" + b"x" * 150 + b"]\n---\n"})
        for number in range(12):
            assert ask(running.url, "POST", "/api/models/org/digits/tag/main", {"tag": f"v{number}"}).status == 200
        yield running


ADDRESSES = (
    "/", "/?search=digits&filter=vision", "/?search=nothing", "/org/digits", "/org/digits/tree/main/a",
    "/org/digits/refs", "/org/hostile", "/org/hostile/commits/main", "/org/broken", "/org/missing", "/-/sign-in",
)  # fmt: skip


@pytest.fixture
def opened(browser: Browser) -> Iterator[Page]:
    """A page in which nothing may be logged, thrown, refused by the policy or asked of others."""
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if "status of 404" not in message.text else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("request", lambda request: request.url.startswith("http://127.0.0.1") or faults.append(request.url))
    yield page
    context.close()
    assert faults == []


WIDER = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const { right, width } = one.getBoundingClientRect();
  const inside = one.closest(".prose, pre, svg, .hidden, .skip, thead");
  return width && right > innerWidth + 1 && (!inside || inside === one && !one.matches(".hidden, .skip, thead"));
}).map((one) => one.outerHTML.slice(0, 100))"""
CONTRAST = """() => {
  const light = (text) => {
    const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = text.match(/[0-9.]+/g).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const colour = getComputedStyle(one).backgroundColor;
    return /, 0\\)$/.test(colour) && one.parentElement ? behind(one.parentElement) : colour;
  };
  return [...document.querySelectorAll("p, a, td, th, dt, dd, button, code, li, h1, h2, h3")].map((one) => {
    const pair = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), one.outerHTML.slice(0, 80)];
  }).filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize(("width", "scheme"), crossed([1280, 390], ["light", "dark"]))
def test_pages_fit_and_can_be_read(opened: Page, filled: Running, width: int, scheme: str) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    opened.emulate_media(color_scheme=scheme)
    for address in ADDRESSES:
        opened.goto(filled.url + address)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, address
        assert opened.evaluate(WIDER) == [], address
        assert opened.evaluate(CONTRAST) == [], address
        shot = Image.open(io.BytesIO(opened.screenshot())).convert("L")
        corner = shot.getpixel((2, shot.height - 2))
        assert (corner > 200) == (scheme == "light"), address
        assert len(shot.getcolors(256) or []) > 20, address


def test_faults_of_the_look_are_found(opened: Page) -> None:
    opened.set_content("<body style='background: #fff'><p style='color: #ccc; width: 9000px'>pale and wide</p>")
    assert len(opened.evaluate(WIDER)) == len(opened.evaluate(CONTRAST)) == 1


def test_the_keyboard_reaches_everything_in_order(opened: Page, filled: Running) -> None:
    opened.goto(filled.url + "/org/digits")
    opened.keyboard.press("Tab")
    expect(opened.locator(".skip")).to_be_focused()
    expect(opened.locator(".skip")).to_be_in_viewport()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Tab")
    first = opened.evaluate("document.activeElement.closest('main') !== null")
    assert first
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    everything = opened.locator("main a[href], main button, main pre[tabindex]")
    reached = set()
    for _ in range(everything.count() + 10):
        reached.add(opened.evaluate("document.activeElement.outerHTML"))
        opened.keyboard.press("Tab")
    assert set(everything.evaluate_all("all => all.map((one) => one.outerHTML)")) <= reached


def test_assistive_software_finds_its_way(opened: Page, filled: Running) -> None:
    opened.goto(filled.url + "/org/digits")
    for role in ("banner", "main", "contentinfo", "search"):
        expect(opened.get_by_role(role)).to_have_count(1)
    for name in ("The pack", "Get it", "Model card", "Files", "Branches and tags"):
        expect(opened.get_by_role("region", name=name, exact=True)).to_have_count(1)
    expect(opened.get_by_role("searchbox", name="Search repositories")).to_have_count(1)
    expect(opened.get_by_role("table", name="Size beside full checkpoints")).to_contain_text("float32")
    levels = opened.locator("h1, h2, h3").evaluate_all("all => all.map((one) => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert opened.locator("html").get_attribute("lang") == "en"


def test_a_picture_of_the_repository_is_shown_and_others_are_not(opened: Page, filled: Running) -> None:
    opened.goto(filled.url + "/org/digits")
    widths = opened.locator(".prose img").evaluate_all("all => all.map((one) => [one.alt, one.naturalWidth])")
    assert widths == [["plot", 1600], ["remote", 0]]


def test_nothing_of_strangers_runs(opened: Page, filled: Running) -> None:
    for address in ("/", "/org/hostile", "/org/hostile/commits/main"):
        opened.goto(filled.url + address)
        assert "run" not in opened.title()
        expect(opened.locator("main h1")).to_be_visible()
        expect(opened.locator("header.top")).to_be_in_viewport()


def test_links_lead_on_and_search_finds(opened: Page, filled: Running) -> None:
    """Also on a registry without tokens, which refuses the pages of others."""
    opened.goto(filled.url)
    opened.get_by_role("searchbox").fill("DIGI")
    opened.keyboard.press("Enter")
    opened.get_by_role("link", name="org/digits").click()
    expect(opened.get_by_role("heading", level=1)).to_have_text("org/digits")
    opened.get_by_role("link", name="a/").click()
    expect(opened.get_by_role("link", name="b.txt")).to_be_visible()
    opened.go_back()
    opened.get_by_role("link", name="history").click()
    expect(opened.locator(".commits li")).to_have_count(2)
    with opened.expect_download() as download:
        opened.goto(filled.url + "/org/digits/tree/main/a")
        opened.get_by_role("link", name="b.txt").click()
    assert download.value.path().read_bytes() == b"x"


def test_verify_checks_the_pack_that_the_page_shows(opened: Page, filled: Running) -> None:
    opened.goto(filled.url + "/org/digits/tree/v3")
    opened.get_by_role("link", name="Verify in this browser").click()
    expect(opened.locator(".verdict.good")).to_contain_text("Verified", timeout=120_000)
    opened.goto(filled.url + "/org/broken")
    expect(opened.locator("main")).to_contain_text("This page cannot describe it")
    expect(opened.get_by_role("link", name="Verify in this browser")).to_have_count(0)


def test_copy_takes_the_command(browser: Browser, filled: Running) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(filled.url + "/org/digits")
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert (
        page.evaluate("navigator.clipboard.readText()") == f"export HF_ENDPOINT={filled.url}\nlottapack pull org/digits"
    )
    context.close()


def test_signing_in_shows_private_repositories_until_signing_out(browser: Browser, tmp_path: Path) -> None:
    with background(tmp_path / "registry") as running:
        writer = running.token("al", "write")
        files = {"README.md": b"# closed", "m.lotta.safetensors": vector("valid/every_role")}
        fill(running.url, "org/secret", files, private=True, token=writer)
        context = browser.new_context()
        page = context.new_page()
        page.goto(running.url + "/org/secret")
        page.get_by_role("main").get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        page.get_by_label("Token").fill(writer)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="closed")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("link", name="Verify in this browser").click()
        expect(page.locator(".verdict.good")).to_contain_text("Verified", timeout=120_000)
        page.go_back()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        assert page.goto(running.url + "/org/secret").status == 401
        context.close()
