"""The pages for browsers: who sees what, that nothing of a stranger's acts in them, and what they cost."""

import re
import threading
from urllib.parse import urlencode

import pytest
from effort import at_most, ends
from extent import extent
from html_runs import ACCEPT, VECTORS, Page, fill, vector, visit
from serve_runs import Client, ask

from lottapack.format import canonical, container
from lottapack_serve import background, pages, tokens
from lottapack_serve.html import cards, packs
from lottapack_serve.html.rendering import visible
from lottapack_serve.routes import account, models, refs, repos, resolve
from lottapack_serve.routes import commit as commits
from lottapack_serve.routes import pages as page_routes

REPOSITORIES = (account, commits, models, page_routes, refs, repos, resolve)
"""The endpoints that name a repository."""
PAGES = ("/", "/org/digits", "/org/digits/tree/main", "/org/digits/commits/main", "/org/digits/refs")
CARD = b"---\nlicense: mit\ntags: [vision]\n---\n# Title\n\nA [link](notes.md).\n"


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/html;q=0, */*", "text/plain, text/htmlx"])
def test_programs_get_what_they_got(shared, accept):
    headers = {"Accept": accept} if accept else {}
    first = ask(shared.url, "GET", "/", headers=headers)
    assert first.body == f"A lottapack registry. Use it with: export HF_ENDPOINT={shared.url}\n".encode()
    for path in (*PAGES[1:], "/nothing"):
        answer = ask(shared.url, "GET", path, headers=headers)
        assert (answer.status, answer.json["error"][:34]) == (404, "This registry does not support /" + path[1:3])
    assert ask(shared.url, "POST", "/org/digits", b"", headers={"Accept": ACCEPT}).status == 404
    assert ask(shared.url, "GET", "/api/models", headers={"Accept": ACCEPT}).json
    assert ask(shared.url, "GET", "/api/whoami-v2", headers={"Accept": ACCEPT}).json["name"] == "local"
    assert ask(shared.url, "GET", "/api/nothing", headers={"Accept": ACCEPT}).error == (404, "")


@pytest.mark.parametrize("path", [*PAGES, "/-/sign-in", "/org/missing", "/nothing", "/org/digits/resolve/main/none"])
def test_every_page_has_the_policy(shared, path):
    answer = visit(shared.url, path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    page = Page(answer.body)
    assert page.faults() == []
    assert [name for name, _ in page.elements].count("h1") == 1
    assert {"html", "main", "header", "footer"} <= {name for name, _ in page.elements}


def test_a_page_shows_the_pack_its_files_and_how_to_get_it(registry):
    fill(
        registry.url,
        "org/digits",
        {"m.lotta.safetensors": vector("valid/every_role"), "README.md": CARD, "a/b.txt": b"x"},
    )
    assert ask(registry.url, "POST", "/api/models/org/digits/tag/main", {"tag": "v1"}).status == 200
    answer = visit(registry.url, "/org/digits/tree/v1")
    page = Page(answer.body)
    for said in (
        "Sequential (torch.nn)",
        "philox4x32-10",
        "normal16",
        "lottapack pull org/digits@v1",
        "Title",
        "license:mit",
    ):
        assert said in page.text
    assert f"export HF_ENDPOINT={registry.url}" in page.text
    commit = ask(registry.url, "GET", "/api/models/org/digits").json["sha"]
    links = page.values("a", "href")
    pack = f"/org/digits/resolve/{commit}/m.lotta.safetensors"
    assert f"/-/web/index.html?{urlencode({'pack': pack})}" in links
    assert f"/org/digits/resolve/{commit}/notes.md" in links
    assert not [link for link in links if "run.html" in link]
    assert ask(registry.url, "GET", pack).body == vector("valid/every_role")
    shown = {file["lfs"]["sha256"] for file in ask(registry.url, "GET", "/api/models/org/digits").json["siblings"]}
    inner = Page(visit(registry.url, "/org/digits/tree/v1/a").body)
    assert shown <= set(re.findall("[0-9a-f]{64}", page.text + inner.text))
    head = ask(registry.url, "HEAD", "/org/digits/tree/v1", headers={"Accept": ACCEPT})
    assert (head.body, int(head.headers["content-length"])) == (b"", len(answer.body))
    again = visit(registry.url, "/org/digits/tree/v1", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_a_pack_with_a_graph_can_be_run(registry, tmp_path, monkeypatch):
    fill(registry.url, "org/digits", {"m.lotta.safetensors": vector("valid/every_role"), "model.onnx": b"graph"})

    def links():
        return [to for to in Page(visit(registry.url, "/org/digits").body).values("a", "href") if "run.html" in to]

    monkeypatch.setattr(pages, "folder", lambda: tmp_path)
    assert links() == []  # a checkout without the runtime
    (tmp_path / "vendor").mkdir()
    [run] = links()
    assert "graph=%2Forg%2Fdigits%2Fresolve%2F" in run and run.endswith("%2Fmodel.onnx")


def test_what_push_prints_is_a_page(registry, tmp_path):
    code = (
        "import sys, lottapack; "
        "print(lottapack.push(sys.argv[1], 'org/new', tag='v1').url, lottapack.push(sys.argv[1], 'org/new').url)"
    )
    client = Client(registry.url, tmp_path / "home", more=(("PYTHONWARNINGS", "ignore"),))
    pack = VECTORS / "valid" / "every_role.lotta.safetensors"
    for url in client.run(code, pack).split():
        assert visit(registry.url, url.removeprefix(registry.url)).status == 200


@pytest.fixture
def guarded(tmp_path):
    """A registry with tokens: a public repository, a private one, and who may read and write."""
    with background(tmp_path / "registry") as running:
        writer, reader = running.token("al", "write"), running.token("bo")
        fill(running.url, "org/digits", {"README.md": b"# open"}, token=writer)
        fill(running.url, "org/secret", {"README.md": b"# closed"}, private=True, token=writer)
        yield running, writer, reader


def sign_in(url, token, headers=None, next_="/org/secret"):
    form = urlencode({"token": token, "next": next_}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": ACCEPT}
    return ask(url, "POST", "/-/sign-in", form, headers={**kind, **(headers or {})})


def test_private_repositories_need_a_session(guarded):
    running, writer, reader = guarded
    assert "secret" not in visit(running.url, "/").body.decode()
    for path in ("", "/tree/main", "/commits/main", "/refs", "/resolve/main/README.md"):
        known, unknown = (visit(running.url, f"/org/{name}{path}") for name in ("secret", "missing"))
        assert known.status == unknown.status == 401
        assert known.body.replace(b"secret", b"missing") == unknown.body
        assert f"/-/sign-in?next=%2Forg%2Fsecret{path.replace('/', '%2F')}".encode() in known.body
    answer = sign_in(running.url, reader)
    assert (answer.status, answer.headers["location"]) == (303, "/org/secret")
    cookie = answer.headers["set-cookie"]
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert reader not in cookie
    session = cookie.partition(";")[0]
    for path in ("/org/secret", "/org/secret/resolve/main/README.md", "/org/secret/refs"):
        assert visit(running.url, path, cookie=session).status == 200
    assert b"secret" in visit(running.url, "/", cookie=session).body
    for site in ("cross-site", "same-site"):
        assert visit(running.url, "/org/secret", cookie=session, headers={"Sec-Fetch-Site": site}).status == 401
    assert writer not in visit(running.url, "/org/secret", cookie=session).body.decode()
    tokens.remove(running.root, "bo")
    assert visit(running.url, "/org/secret", cookie=session).status == 401


def test_no_address_tells_the_private_from_the_missing(guarded):
    """Every address of a repository, by every method, as a program and as a browser; also after it has moved."""
    running, writer, _ = guarded
    commit = ask(running.url, "GET", "/api/models/org/secret", token=writer).json["sha"]
    routes = [route for part in REPOSITORIES for route in part.ROUTES if "{owner}" in route.path]
    asked = [(method, route.path) for route in routes for method in sorted(route.methods or ["GET"])]
    assert len(asked) > 25
    browser = {"Accept": ACCEPT, "Sec-Fetch-Site": "none", "Cookie": "lottapack_session=x"}

    def same(method, path, revision, headers):
        parts = {"{owner}": "org", "{revision}": revision, "{branch}": "main", "{path:path}": "README.md"}
        for part, text in parts.items():
            path = path.replace(part, text)
        found = [
            ask(running.url, method, path.replace("{name}", name), headers=headers) for name in ("secret", "missing")
        ]
        private, missing = found
        return private.status == missing.status >= 400 and private.body.replace(b"secret", b"missing") == missing.body

    for moved in (False, True):
        if moved:
            body = {"fromRepo": "org/secret", "toRepo": "org/elsewhere"}
            assert ask(running.url, "POST", "/api/repos/move", body, token=writer).status == 200
        for revision, headers in (("main", {}), (commit, browser)):
            assert [one for one in asked if not same(*one, revision, headers)] == []


def test_shared_caches_keep_nothing_private(guarded):
    running, writer, _ = guarded
    session = sign_in(running.url, writer).headers["set-cookie"].partition(";")[0]
    for path in ("/org/secret", "/org/secret/resolve/main/README.md", "/api/models/org/secret", "/api/models", "/"):
        for sent in ({"Cookie": session}, {"Authorization": f"Bearer {writer}"}):
            answer = ask(running.url, "GET", path, headers={"Accept": ACCEPT, **sent})
            assert (answer.status, answer.headers["cache-control"]) == (200, "private, no-cache")
            assert {"Authorization", "Cookie"} <= {name.strip() for name in answer.headers["vary"].split(",")}
    answer = ask(running.url, "GET", "/org/digits/resolve/main/README.md")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.headers["vary"] == "Authorization, Cookie"


def test_a_session_only_reads_and_ends(guarded):
    running, writer, _ = guarded
    session = sign_in(running.url, writer).headers["set-cookie"].partition(";")[0]
    for method, path, body in (
        ("POST", "/api/repos/create", {"name": "new", "organization": "org"}),
        ("DELETE", "/api/repos/delete", {"name": "digits", "organization": "org"}),
        ("PUT", "/api/models/org/secret/settings", {"private": False}),
    ):
        answer = ask(running.url, method, path, body, headers={"Cookie": session, "Sec-Fetch-Site": "same-origin"})
        assert answer.status == 401
    ended = ask(running.url, "POST", "/-/sign-out", b"", headers={"Cookie": session})
    assert ended.status == 303
    # The pages that run packs keep one for later, which may have been private.
    assert ended.headers["clear-site-data"] == '"storage"'
    assert visit(running.url, "/org/secret", cookie=session).status == 401


def test_only_its_own_form_signs_in(guarded):
    running, _, reader = guarded
    foreign = ("https://evil.example", "null", "http://[", f"{running.url}.evil.example")
    for headers in (*({"Origin": origin} for origin in foreign), {"Sec-Fetch-Site": "cross-site"}):
        assert sign_in(running.url, reader, headers).status == 403
    own = {"Origin": running.url, "Sec-Fetch-Site": "same-origin"}
    assert sign_in(running.url, reader, own).status == 303
    wrong = sign_in(running.url, "lotta_wrong", own)
    assert wrong.status == 401 and "set-cookie" not in wrong.headers
    assert ask(running.url, "POST", "/-/sign-in", b"token=" + b"x" * 70_000).status == 413
    over_tls = sign_in(running.url, reader, {"X-Forwarded-Proto": "https"})
    assert "secure" in over_tls.headers["set-cookie"].lower()


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/\n/evil.example", "x"])
def test_signing_in_leads_to_this_registry(guarded, to):
    running, _, reader = guarded
    assert sign_in(running.url, reader, next_=to).headers["location"] == "/"


def test_a_registry_without_anonymous_reading_asks_to_sign_in(tmp_path):
    with background(tmp_path / "registry", anonymous_read=False) as running:
        reader = running.token("bo")
        for path in ("/", "/org/digits"):
            assert visit(running.url, path).status == 401
        session = sign_in(running.url, reader).headers["set-cookie"].partition(";")[0]
        assert visit(running.url, "/", cookie=session).status == 200
        assert visit(running.url, "/-/sign-in").status == 200


def test_who_comes_from_another_site_can_go_on(shared):
    answer = visit(shared.url, "/org/digits?cursor=a", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403
    assert "/org/digits?cursor=a" in Page(answer.body).values("a", "href")


@pytest.mark.parametrize("path", ["//evil.example/x", "///evil.example", "//evil.example/org/digits/resolve/main/x"])
def test_a_refusal_does_not_lead_elsewhere(shared, path):
    """Browsers take an address that begins with two slashes for another host."""
    for site in ("cross-site", "none"):
        answer = visit(shared.url, path, headers={"Sec-Fetch-Site": site})
        assert answer.status >= 400 and "location" not in answer.headers
        assert Page(answer.body).faults() == []


HOSTILE = """
<script>document.title = 'run'</script><img src=x onerror="document.title='run'">
<svg onload="document.title='run'"><script>1</script></svg><iframe srcdoc="<script>1</script>"></iframe>
<style>body { display: none }</style><link rel=stylesheet href="//evil.example/x.css"><base href="//evil.example">
<form action="https://evil.example"><input name=token><button>Sign in</button></form>
<meta http-equiv=refresh content="0;url=//evil.example">
<a href="javascript:document.title='run'">a</a> [b](javascript:alert(1)) [c](JaVaScRiPt:alert(1))
[d](data:text/html,x) [e](vbscript:x)
[f](java&#115;cript:alert(1)) <a href="java\tscript:alert(1)">g</a> <a href=" javascript:alert(1)">h</a>
[i](//evil.example/x) [s](///evil.example/x) <a href="////evil.example">t</a> ![u](///evil.example/x)
[j](\\\\evil.example) <a href="/\\evil.example">k</a> ![l](https://evil.example/pixel.png)
![m](data:image/svg+xml,<svg>) ![n](//evil.example/p)
<div style="position:fixed;inset:0;background:url(//evil.example)" class=skip id=main name=body>o</div>
![p](../../../-/sign-out) [q](../../../etc)
<table background="//evil.example"><td background=x></table><video src=x></video>
<math><mi xlink:href="javascript:1">m</mi></math>
<a href="https://x.example" target=_top ping=https://evil.example rel=opener>r</a> \u202egnp.exe&#8238;abc&#x2066;
<details open ontoggle=alert(1)><summary>s</summary></details>
<img srcset="//evil.example/2x 2x" src="ok.png" width=99999 height="10">
<noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript>
<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">
"""


def test_nothing_of_a_card_acts(registry):
    fill(registry.url, "org/digits", {"README.md": HOSTILE.encode()})
    body = visit(registry.url, "/org/digits").body
    page = Page(body)
    assert page.faults() == []
    assert page.values("div", "style") == page.values("div", "id") == []
    for link in page.values("a", "href"):
        assert not link.startswith(("javascript", "data", "vbscript"))
    assert all(
        "evil.example" not in value for _, found in page.elements for name, value in found.items() if name != "title"
    )
    assert "\u202e" not in page.text and "\u2066" not in page.text
    [picture] = [src for src in page.values("img", "src") if "resolve" in src and src.endswith("ok.png")]
    assert picture.startswith("/org/digits/resolve/")
    assert body.count(b"<h1") == 1


NAMES = [
    "<img src=x onerror=alert(1)>.txt",
    "\u202egnp.exe",
    '" onmouseover="alert(1)',
    "x" * 250,
    "%2e%2e.txt",
    "javascript:alert(1)",
    "zero\u200bwidth",
    "{{ 7 * 7 }}.md",
    "#a?b=c&d.txt",
]


def test_strange_names_are_only_text(registry):
    title = "<script>alert(1)</script>\u202e\u2066{{ 7 * 7 }}"
    fill(registry.url, "org/digits", dict.fromkeys(NAMES, b"x"), title=title)
    for path in PAGES:
        page = Page(visit(registry.url, path).body)
        assert page.faults() == []
        assert not re.search("[\u200b\u202a-\u202e\u2066-\u2069]", page.text)
    files = Page(visit(registry.url, "/org/digits").body)
    assert "{{ 7 * 7 }}.md" in files.text and "\\u202egnp.exe" in files.text
    for link in files.values("a", "href"):
        if "/resolve/" in link:
            assert ask(registry.url, "GET", link).body == b"x"


def test_tags_of_a_card_are_only_text(registry):
    card = "---\ntags: ['<b>x</b>', '\u202ey', \"a&b=c\", '" + "z" * 199 + "']\nlicense: '\"><script>'\n---\n"
    fill(registry.url, "org/digits", {"README.md": card.encode()})
    for path in ("/", "/org/digits", "/?" + urlencode({"filter": "<b>x</b>", "search": "<i>", "author": '"><b>'})):
        page = Page(visit(registry.url, path).body)
        assert page.faults() == []
        assert not any(tag in ("b", "i") for tag, _ in page.elements)
    assert "org/digits" in Page(visit(registry.url, "/?filter=%3Cb%3Ex%3C%2Fb%3E").body).text


N = 2 * cards.LONGEST
BOMBS = {
    "brackets": "[" * N, "pictures": "![" * (N // 2), "stars": "*a_" * (N // 3), "quotes": ">" * N,
    "tags": "<div>" * (N // 5), "ticks": " ".join("`" * i for i in range(1, 500)), "details": "<details>" * (N // 9),
    "lists": "\n".join(" " * 2 * i + "- a" for i in range(360)), "strong": "**x* " * (N // 5),
    "comments": "<!--" * (N // 4),
    "references": "[a]: u\n\n" + "[a]" * (N // 3), "wide table": "|a" * 9000 + "|\n" + "|-" * 9000
    + "|\n" + "|\n" * 9000,
    "long table": "|a|b|\n|-|-|\n" + "|x|y|\n" * (N // 6), "entities": "&lt;" * (N // 4), "tabs": "\t" * N,
    "nul": "\0" * N, "lazy lines": ">" * 90 + "a\n" + "b\n" * N, "lazy returns": ">" * 90 + "a\r" + "b\r" * N,
    "formatting": "<b><i><u><s><em>" * (N // 20) + "<p>" * 1000, "headings": "a\n" * (N // 2) + "===",
}  # fmt: skip


@pytest.mark.parametrize("name", [*BOMBS][:: extent(2, 1)])
def test_cards_cost_little(name):
    with at_most(128 * len(BOMBS[name])):
        made = cards.page(BOMBS[name], "/org/digits", "c" * 40)
    assert len(made) <= cards.LONGEST_HTML + 8 * cards.LONGEST
    assert Page(made.encode()).faults() == []


@pytest.mark.parametrize(("text", "whole"), [
    ("a\r\n" * cards.MOST_LINES, True), ("a\n" * cards.MOST_LINES + "b", False), ("a\r" * 5000, False),
    ("a" * cards.LONGEST, True), ("a" * (cards.LONGEST + 1), False), ("", True),
])  # fmt: skip
def test_a_card_says_where_it_was_cut(text, whole):
    assert ("the rest is in the file" not in cards.page(text, "/org/digits", "c" * 40)) == whole


def test_others_are_served_while_a_card_is_rendered(registry):
    fill(registry.url, "org/slow", {"README.md": BOMBS["pictures"].encode()})
    asked = 0
    reading = threading.Thread(target=visit, args=(registry.url, "/org/slow"))
    reading.start()
    while reading.is_alive():
        assert ask(registry.url, "GET", "/api/models/org/digits").status == 200
        asked += 1
    assert asked > 3


@pytest.mark.parametrize("place", ["valid", "invalid"])
def test_every_pack_has_a_page(registry, place):
    """Whatever its author wrote: the page describes it or says why not, and names nothing of the registry's disk."""
    every = sorted((VECTORS / place).glob("*.lotta.safetensors"))
    for path in every[:: 1 if place == "valid" else 7]:
        described = packs.describe(path)
        assert bool(described.fault) or place == "valid" or described.facts
        assert str(path.parent) not in described.fault
    fill(registry.url, "org/digits", {"m.lotta.safetensors": every[0].read_bytes()})
    answer = visit(registry.url, "/org/digits")
    assert answer.status == 200 and str(registry.root) not in answer.body.decode()
    assert Page(answer.body).faults() == []


def adapted(alpha, name="0.weight"):
    factor = {"dtype": "float32", "sha256": "0" * 64}
    return {
        name: {
            "role": "adapted", "shape": [2, 2], "dtype": "float32", "distribution": "normal16", "scale": 1.0,
            "fingerprint": "0123456789abcdef", "rank": 1, "alpha": alpha, "scaling": "lora",
            "adapter": {"lora_A": factor, "lora_B": factor, "beta": factor},
        }
    }  # fmt: skip


def test_odd_texts_and_numbers_of_a_pack_are_only_text(tmp_path):
    text = canonical.dumps(
        {
            "lottapack": "1.0",
            "architecture": {"family": "transformers", "class": "A\u202e<b>", "config": {}},
            "rng": {"id": "philox4x32-10", "seed": "ffffffffffffffff", "tables": {}},
            "parameters": {"<i>": {"role": "constant", "shape": [2], "dtype": "int8", "value": "07"}},
            "provenance": {"<script>": "\u202e" * 50},
        }
    )
    path = tmp_path / "p"
    path.write_bytes(container.header_bytes([], container.pack_metadata(text)))
    described = packs.describe(path)
    with background(tmp_path / "registry") as running:
        fill(running.url, "org/odd", {"m.lotta.safetensors": path.read_bytes()})
        page = Page(visit(running.url, "/org/odd").body)
    assert page.faults() == [] and "\u202e" not in page.text
    assert described.fault or "A\\u202e<b>" in page.text


def test_numbers_that_are_not_finite_are_words():
    assert packs._range([float("nan"), 0.5, 0.25]) == "0.25 to 0.5, some not finite"
    assert packs._range([float("inf")]) == "not finite"
    assert packs._range([0.5, 0.5]) == "0.5"
    assert packs._number(1e300) == "1e+300"
    assert visible("a\u202eb\x00\U000e0001" + "c" * 400, 20) == "a\\u202eb\\u0000\\U000e0001" + "c" * 15 + "…"


def test_a_large_header_is_not_read(tmp_path):
    path = tmp_path / "p"
    path.write_bytes((packs.LARGEST_HEADER + 1).to_bytes(8, "little") + b" " * 1000)
    assert "lottapack inspect" in packs.describe(path).fault


def test_thousands_of_files_come_in_pages(registry):
    names = [f"{number:05}.bin" for number in range(5000)]
    fill(registry.url, "org/digits", dict.fromkeys(names, b""))
    path, seen = "/org/digits", list[str]()
    with ends():
        for _ in range(3):
            page = Page(visit(registry.url, path).body)
            seen += re.findall(r"\b[0-9]{5}\.bin", page.text)
            [following] = [link for link in page.values("a", "href") if link.startswith("?cursor=")]
            path = "/org/digits/tree/main" + following
    assert seen == names[:150]


def test_lists_come_in_pages(registry):
    for number in range(30):
        body = {"name": f"model-{number:02}", "organization": "many"}
        assert ask(registry.url, "POST", "/api/repos/create", body).status == 200
    for number in range(120):
        assert ask(registry.url, "POST", "/api/models/org/digits/tag/main", {"tag": f"t{number:03}"}).status == 200
    for sort in ("", "&sort=name"):
        page = Page(visit(registry.url, f"/?author=many&search=MODEL{sort}").body)
        [following] = [link for link in page.values("a", "href") if "cursor=" in link]
        rest = Page(visit(registry.url, following).body)
        assert sorted(re.findall("model-[0-9]+", page.text + rest.text)) == [f"model-{n:02}" for n in range(30)]
    refs = Page(visit(registry.url, "/org/digits/refs").body)
    [following] = [link for link in refs.values("a", "href") if "cursor=" in link]
    rest = Page(visit(registry.url, "/org/digits/refs" + following).body)
    assert len(re.findall("t[0-9]{3}", refs.text)) + len(re.findall("t[0-9]{3}", rest.text)) == 120
    assert visit(registry.url, "/?cursor=x").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "..%2F..%2Fpages.py",
        "%2e%2e/%2e%2e/pages.py",
        ".hidden.js",
        "a%00.js",
        "a%5Cb.js",
        "",
        "README.md",
        "%2Fetc%2Fx.js",
        "a" * 300 + ".js",
        "..%252fpages.js",
        "page/../../../x.js",
        "page//base.css",
        "page/./base.css",
        "page/base.css/",
        "page/base.css/x.js",
        "a/" * 2000 + "x.js",
    ],
)
def test_only_the_pages_own_files_are_sent(shared, path):
    for folder in ("static", "web"):
        assert ask(shared.url, "GET", f"/-/{folder}/{path}").error == (404, "")


def test_the_pages_that_verify_are_sent(shared):
    page = ask(shared.url, "GET", "/-/web/index.html")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    script = ask(shared.url, "GET", "/-/web/lottapack.js")
    assert (script.status, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    again = ask(shared.url, "GET", "/-/web/lottapack.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_files_of_strangers_cannot_act(registry):
    fill(registry.url, "org/digits", {"a.html": b"<script>1</script>", "b.svg": b"<svg onload='1'/>", "c.js": b"1"})
    for name in ("a.html", "b.svg", "c.js"):
        answer = visit(registry.url, f"/org/digits/resolve/main/{name}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
