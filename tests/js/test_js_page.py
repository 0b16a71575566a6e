"""The page of spec/js in a real browser: valid, damaged, refused, too large packs, and odd names."""

import base64
import hashlib
import json
import re

import pytest
from js_runs import JS, SUFFIX
from playwright.sync_api import expect

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
    page.wait_for_selector(DONE, timeout=30_000)


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
        "container_duplicate_tensor",
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
    expect(page.locator(".busy progress")).not_to_have_js_property("value", 0, timeout=30_000)
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
    said = page.evaluate("url => fetch(url).then(() => 'answered', ({ name }) => name)", address)
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
