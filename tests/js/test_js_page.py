"""The page of spec/js in a real browser: valid, damaged, refused, too large packs, and odd names."""

import base64
import hashlib
import json
import math
import re

import pytest
import torch
from js_runs import JS, SUFFIX
from playwright.sync_api import expect
from torch import nn

import lottapack
from lottapack.format import canonical, container

FILES = JS.parent / "v1" / "vectors" / "files"
DONE = ".verdict:not(.busy)"
DROP = """async ([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
    document.querySelector("#drop").dispatchEvent(event);
  }
}"""


def vector(name):
    return FILES / f"{name}{SUFFIX}"


def of_descriptor(parameters, generator=None):
    """Return a pack without tensors, as a file for the page."""
    text = canonical.dumps(
        {
            "lottapack": "1.0",
            "architecture": {"family": "transformers", "class": "AnyModel", "config": {}},
            "rng": generator or {"id": "philox4x32-10", "seed": "000000000000002a", "tables": {}},
            "parameters": parameters,
            "provenance": {},
        }
    )
    written = container.header_bytes([], container.pack_metadata(text))
    return {"name": f"made{SUFFIX}", "mimeType": "application/octet-stream", "buffer": written}


def seeded(elements, distribution="normal16"):
    entry = {"role": "seeded", "shape": [elements], "dtype": "float32", "distribution": distribution}
    return {**entry, "scale": 1.0, "fingerprint": "0123456789abcdef"}


def choose(page, file):
    page.set_input_files("#file", file)
    page.wait_for_selector(DONE, timeout=120_000)


def test_a_dropped_pack_is_shown_and_verified(page):
    path = vector("valid/every_role")
    page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
    expect(page.locator(".verdict.good")).to_contain_text("Verified")
    expect(page.locator(".verdict")).to_contain_text(path.name)
    expect(page.locator(".verdict")).to_contain_text(hashlib.sha256(path.read_bytes()).hexdigest())
    facts = page.locator(".facts")
    for said in ("Sequential", "torch.nn", "42", "0x000000000000002a", "philox4x32-10"):
        expect(facts).to_contain_text(said)
    expect(page.locator(".stack > span")).not_to_have_count(0)
    expect(page.locator(".betas circle")).not_to_have_count(0)
    assert {text.split()[0] for text in page.locator("h3").all_inner_texts()} >= {"adapted", "seeded", "stored", "tied"}


@pytest.mark.parametrize("name", ["backbone_dtypes", "custom_tables", "unicode_names", "no_parameters", "magnitude"])
def test_valid_packs_are_verified(page, name):
    choose(page, vector(f"valid/{name}"))
    expect(page.locator(".verdict")).to_have_class(re.compile("good"))


@pytest.mark.parametrize(
    "name",
    [
        "container_length_no_file",
        "container_canonical_tensor_twice",
        "descriptor_field_rank_float",
        "agreement_missing_stored",
        "contents_sha256_lora_b",
        "contents_fingerprint_seeded",
    ],
)
def test_faulty_packs_are_refused_with_the_place(page, name):
    sidecar = json.loads((FILES / "invalid" / f"{name}.json").read_text("utf-8"))
    choose(page, vector(f"invalid/{name}"))
    expect(page.locator(".verdict")).to_have_class(re.compile("bad"))
    expect(page.locator(".problems .where")).to_have_text([sidecar["where"]])
    expect(page.locator(".problems li")).to_contain_text(f"({sidecar['kind']})")
    shown = sidecar["section"] == "contents"  # its own metadata still shows
    expect(page.locator(".facts")).to_have_count(int(shown))


def test_what_torch_drew_is_said_to_need_torch(page):
    generator = {"id": "torch-cpu", "seed": "000000000000002a", "tables": {}, "torch": "2.13.0", "capability": "AVX512"}
    choose(page, of_descriptor({"0.weight": seeded(4, "constructor")}, generator))
    expect(page.locator(".verdict")).to_have_class(re.compile("part"))
    expect(page.locator(".verdict")).to_contain_text("needs torch: PyTorch 2.13.0 (AVX512)")
    expect(page.locator(".facts")).to_contain_text("torch-cpu, torch 2.13.0, AVX512")


def test_a_model_over_the_limit_is_checked_when_asked(page):
    choose(page, vector("invalid/limit_constant"))
    expect(page.locator(".verdict strong")).to_have_text("Larger than is checked unasked")
    page.get_by_role("button", name="Check it anyway").click()
    expect(page.locator(".verdict.good")).to_contain_text("Verified")


def test_a_strangers_names_are_only_text(page):
    name = "<img src=x onerror=\"document.title='run'\">.weight"
    choose(page, of_descriptor({name: {"role": "constant", "shape": [2], "dtype": "int8", "value": "07"}}))
    expect(page.locator(".verdict")).to_have_class(re.compile("good"))
    expect(page.locator("td.mono")).to_have_text([name])
    assert page.locator("main img").count() == 0
    assert page.title() == f"made{SUFFIX}: lottapack"


def test_progress_is_shown_and_another_file_stops_the_work(page):
    page.set_input_files("#file", of_descriptor({"w": seeded(2**31)}))
    expect(page.locator(".busy progress")).not_to_have_js_property("value", 0, timeout=120_000)
    assert page.locator("progress").evaluate("bar => bar.value") < 0.5
    choose(page, vector("valid/minimal"))
    expect(page.locator(".verdict")).to_contain_text("minimal")
    expect(page.locator(".verdict")).to_have_class(re.compile("good"))


BODY = "() => ['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"


def test_light_and_dark(page):
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate(BODY))
    assert colours == [["rgb(246, 247, 251)", "rgb(23, 26, 38)"], ["rgb(15, 17, 23)", "rgb(232, 234, 242)"]]


INLINE = "() => { document.body.append(Object.assign(document.createElement('script'), { text: 'window.ran = 1' })) }"


def test_the_policy_lets_nothing_out_and_no_script_in(browser, address):
    page = browser.new_page()
    page.goto(address)
    other = address.replace("127.0.0.1", "localhost")  # another site, as browsers see it
    said = page.evaluate("url => fetch(url, { mode: 'no-cors' }).then(() => 'answered', ({ name }) => name)", other)
    page.evaluate(INLINE)
    assert (said, page.evaluate("window.ran")) == ("TypeError", None)
    page.close()


def test_opened_from_a_folder_it_says_how_to_serve_it(browser):
    page = browser.new_page()
    page.goto((JS / "index.html").as_uri())
    expect(page.locator("#unsupported")).to_be_visible()
    expect(page.locator("#unsupported")).to_contain_text("python -m http.server")
    expect(page.locator("#drop")).to_be_hidden()
    page.close()


def trained(tmp_path, betas, alpha=1.0):
    """A pack of a model whose layers have these betas."""
    path = tmp_path / f"made{SUFFIX}"
    layers = [nn.Linear(4, 4) for _ in betas]
    model = lottapack.scaffold(nn.Sequential(*layers, nn.Linear(4, 2)), seed=1, rank=1, alpha=alpha)
    with torch.no_grad():
        for number, beta in enumerate(betas):
            model[number].beta.fill_(beta)
    lottapack.pack(model, path, allow_nonfinite=True)
    return path


@pytest.mark.parametrize(
    ("betas", "label"),
    [
        ([1.0, 1.0, 1.0], "3 learned betas, all of them 1"),
        ([0.5], "1 learned beta, 0.5"),
        ([1.0, math.nan], "2 learned betas, 1; 1 not finite"),
        ([math.nan], "1 learned beta, none of them finite"),
        ([math.inf, 0.5, 2.0], "3 learned betas from 0.5 to 2; 1 not finite"),
    ],
)
def test_betas_of_every_kind_are_drawn(page, tmp_path, betas, label):
    choose(page, trained(tmp_path, betas))
    picture = page.locator("svg.betas")
    expect(picture).to_have_attribute("aria-label", label)
    finite = [beta for beta in betas if math.isfinite(beta)]
    circles = picture.locator("circle")
    expect(circles).to_have_count(len(finite))
    height = float(picture.get_attribute("viewBox").split()[3])
    places = [float(circle.get_attribute("cy")) for circle in circles.all()]
    assert all(10 < place < height - 10 for place in places)
    if len(set(finite)) == 1 and finite[0] == 1:
        assert all(abs(place - height / 2) < 10 for place in places)
    odd = len(betas) - len(finite)
    expect(page.locator(".warning")).to_have_count(min(odd, 1))


WIDTH = "() => [document.documentElement.scrollWidth, innerWidth]"


def test_it_fits_a_telephone_whatever_the_numbers(watch, address, tmp_path):
    with watch(address, viewport={"width": 390, "height": 800}) as page:
        page.goto(address)
        choose(page, trained(tmp_path, [1.0, 1.0], alpha=1e30))
        expect(page.locator("main")).to_contain_text("alpha 1e+30 (lora)")
        assert page.evaluate(WIDTH) == [390, 390]
        for name in ("every_role", "unicode_names", "magnitude"):
            choose(page, vector(f"valid/{name}"))
            assert page.evaluate(WIDTH) == [390, 390]
            for table in page.locator(".scroll").all():
                assert table.evaluate("node => node.scrollWidth <= node.clientWidth")  # no column is cut
        wide = page.locator("td.mono").first.evaluate("node => node.clientWidth")
        assert wide > 250


def test_several_dropped_files_are_refused_and_another_is_taken(page):
    path = vector("valid/minimal")
    one = [path.name, base64.b64encode(path.read_bytes()).decode()]
    page.evaluate(
        DROP.replace("dataTransfer.items.add(", "dataTransfer.items.add(new File([], 'b')); dataTransfer.items.add("),
        one,
    )
    expect(page.locator(".verdict.bad")).to_contain_text("2 files were dropped")
    expect(page.locator(".verdict.bad")).to_contain_text("Drop one pack at a time")
    for name in ("minimal", "every_role"):
        path = vector(f"valid/{name}")
        page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
        expect(page.locator(".verdict.good")).to_contain_text(name)


def test_a_check_is_cancelled(page):
    page.set_input_files("#file", of_descriptor({"w": seeded(2**31)}))
    expect(page.locator(".busy progress")).not_to_have_js_property("value", 0, timeout=120_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".verdict.part")).to_contain_text("Cancelled")
    choose(page, vector("valid/minimal"))
    expect(page.locator(".verdict.good")).to_contain_text("Verified")


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"\x89PNG\r\n\x1a\n", "this is a PNG image, not a pack"),
        (b"PK\x03\x04 and so on", "this is a ZIP archive"),
        (b"<!doctype html>", "this is an HTML or XML document"),
        (b"\xfe" * 20, "does not begin with the length of a header"),
        (b"short", "under 8 bytes"),
    ],
)
def test_files_of_other_kinds_are_named(page, begin, said):
    choose(page, {"name": "a.png", "mimeType": "image/png", "buffer": begin + bytes(range(100))[: len(begin) - 5 or 0]})
    expect(page.locator(".problems")).to_contain_text(said)


def test_a_pack_is_taken_from_the_address(watch, registry):
    with registry(FILES / "valid") as home, watch(home) as page:
        page.goto(f"{home}web/index.html?pack=/minimal{SUFFIX}")
        expect(page.locator(".verdict.good")).to_contain_text(f"/minimal{SUFFIX}")
        page.goto(f"{home}web/index.html?pack=https://example.org/a")
        expect(page.locator(".verdict.bad")).to_contain_text("the page only reads from its own server")
