"""The page that runs models, in a real browser: the answers of torch, and refusals of what a stranger may send."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from browsers import executable
from extent import crossed
from html_runs import fill
from js_runs import JS
from playwright.sync_api import expect
from torch import nn

import lottapack
from lottapack_cli.demo.data import load_digits
from lottapack_serve import background, pages

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

PACK = "model.lotta.safetensors"
GRAPH = "model.onnx"
DONE = ".verdict:not(.busy):not([hidden])"
SLOW = 90_000

pytestmark = [
    pytest.mark.skipif(
        not (JS / "vendor" / "ort.wasm.min.mjs").is_file(), reason="missing: the runtime beside the page: make web"
    ),
    pytest.mark.usefixtures("parsed_operators"),
]


def digits() -> nn.Module:
    """Train a small network on scikit-learn's digits with some noise, as drawings have other grey levels."""
    torch.manual_seed(0)
    images, labels = load_digits()[0].images, load_digits()[0].labels
    model = lottapack.scaffold(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)), seed=1, rank=8)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], 5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images + 0.05 * torch.randn_like(images)), labels).backward()
        optimizer.step()
    return model


def cnn() -> nn.Module:
    """A network whose input cannot be drawn: two channels."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    return lottapack.scaffold(nn.Sequential(*layers), seed=2, rank=2).eval()


def tokenizer() -> "transformers.PreTrainedTokenizerFast":
    """Bytes and a few pairs of them, learned from this file."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train([__file__], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def llama() -> nn.Module:
    """A Llama of two layers, its adapters drawn so that it writes something, and which does not end a text itself."""
    config = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        vocab_size=400, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = lottapack.scaffold(transformers.LlamaForCausalLM(config), seed=3, rank=4)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        model.get_input_embeddings().weight[1] = 0  # its logit is 0, and others are greater
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory, parsed_operators):
    """A folder of models: each a pack that holds its graph, and the graph beside it."""
    home = tmp_path_factory.mktemp("models")
    (home / "anna").mkdir()
    tokenizer().save_pretrained(home / "tokenizer")
    examples = {"cnn": (torch.zeros(2, 2, 6, 6),)}
    for make in (digits, cnn, llama):
        name = make.__name__
        files = {"files": home / "tokenizer"} if make is llama else {}
        bare = home / f"{name}.lotta.safetensors"
        lottapack.pack(make(), bare, **files)
        lottapack.onnx.export(bare, home / "anna" / name, weights="none", inputs=examples.get(name))
    return home


@pytest.fixture(scope="module")
def address(models, registry):
    with registry(models) as found:
        yield found


@pytest.fixture
def page(watch, address):
    with watch(address) as opened:
        yield opened


def visit(page, address, query, **options):
    page.goto(f"{address}web/run.html{query}", **options)
    page.wait_for_selector(DONE, timeout=SLOW)
    return page.locator(".verdict")


def drop(page, *files: Path | dict) -> None:
    of = {"mimeType": "application/octet-stream"}
    named = [one if isinstance(one, dict) else {"name": one.name, "buffer": one.read_bytes(), **of} for one in files]
    page.set_input_files("#file", named)
    page.wait_for_selector(DONE, timeout=SLOW)


def ring(across, down, wide, high):
    turn = [2 * math.pi * step / 20 for step in range(21)]
    return [(across + wide * math.sin(angle), down - high * math.cos(angle)) for angle in turn]


DRAWINGS = {
    0: [ring(0.5, 0.5, 0.2, 0.36)],
    2: [[(0.3, 0.28), (0.42, 0.14), (0.6, 0.16), (0.66, 0.32), (0.5, 0.58), (0.3, 0.84), (0.72, 0.84)]],
    3: [[(0.3, 0.18), (0.5, 0.12), (0.68, 0.25), (0.45, 0.48), (0.65, 0.55), (0.72, 0.72), (0.55, 0.87), (0.3, 0.8)]],
    4: [[(0.5, 0.12), (0.28, 0.6), (0.75, 0.6)], [(0.62, 0.35), (0.58, 0.9)]],
    7: [[(0.25, 0.15), (0.75, 0.15), (0.45, 0.88)]],
}


def draw(page, strokes):
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".answer")).to_have_text("Draw a digit.")
    pad = page.locator("canvas.pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for points in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=4)
        page.mouse.up()


SEEN = """async ([size]) => {
  const { preprocess } = await import("/web/run/images.js");
  const { data } = document.querySelector(".pad").getContext("2d").getImageData(0, 0, size, size);
  return [...preprocess(Float32Array.from({ length: size * size }, (_, i) => data[4 * i + 3] / 255), size, 8)];
}"""


@pytest.mark.slow
def test_a_drawn_digit_is_read_and_its_logits_are_those_of_torch(page, address, models):
    expect(visit(page, address, "?model=anna/digits")).to_contain_text("Verified and running")
    model = lottapack.load(models / "digits.lotta.safetensors", merge=True)
    for digit, strokes in DRAWINGS.items():
        draw(page, strokes)
        expect(page.locator(".answer")).to_contain_text(f"This is a {digit} (")
        expect(page.locator(".class.best .label")).to_have_text(str(digit))
        page.wait_for_selector("#model[aria-busy=false]")  # all moves of the mouse are answered
        with torch.no_grad():
            due = model(torch.tensor([page.evaluate(SEEN, [280])]))[0]
        found = json.loads(page.locator("#model").get_attribute("data-logits"))
        assert (torch.tensor(found) - due).abs().max() < 1e-4


def test_a_finger_and_the_keyboard_draw_too(browser, watch, address):
    with watch(address, has_touch=True, viewport={"width": 390, "height": 800}) as page:
        visit(page, address, "?model=anna/digits")
        box = page.locator("canvas.pad").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(page.locator(".answer")).to_contain_text("This is a ")
        page.keyboard.press("Delete")
        expect(page.locator(".answer")).to_have_text("Draw a digit.")
        page.keyboard.press("Space")
        for _ in range(6):
            page.keyboard.press("ArrowDown")
        expect(page.locator(".answer")).to_contain_text("This is a ")


@pytest.mark.every
def test_what_it_cost_is_shown(page, address, models):
    visit(page, address, "?model=anna/digits")
    measured = page.locator("#measured")
    size = (models / "anna" / "digits" / PACK).stat().st_size
    for said in (
        "First answer after",
        f"pack {size / 1000:.1f} kB",
        "runtime 14",
        "Memory",
        "full, 16 bits",
        "WebAssembly",
    ):
        expect(measured).to_contain_text(said)


GREEDY = 20


def test_the_llama_writes_the_tokens_of_torch(page, address, models):
    visit(page, address, "?model=anna/llama")
    page.get_by_label("Prompt").fill("import torch\n")
    page.get_by_label("Tokens, at most").fill(str(GREEDY))
    page.get_by_role("button", name="Write").click()
    page.wait_for_selector("#model[data-ids]", timeout=SLOW)
    found = json.loads(page.locator("#model").get_attribute("data-ids"))
    model = lottapack.load(models / "llama.lotta.safetensors", merge=True)
    reader = transformers.AutoTokenizer.from_pretrained(models / "tokenizer")
    prompt = reader("import torch\n", return_tensors="pt")
    with torch.no_grad():
        due = model.generate(**prompt, max_new_tokens=GREEDY, do_sample=False, pad_token_id=1)[
            0, prompt.input_ids.shape[1] :
        ]
    assert found == due.tolist()
    assert len(found) == GREEDY
    expect(page.locator(".added")).to_have_text(reader.decode(due, skip_special_tokens=True))
    expect(page.locator("#model")).to_contain_text("tokens a second")


@pytest.mark.every
@pytest.mark.parametrize(
    ("prompt", "most", "said"), [("", "2", "holds no token to begin with"), ("import", "2000", "has 2048 positions")]
)
def test_prompts_that_the_model_has_no_room_for(page, address, prompt, most, said):
    visit(page, address, "?model=anna/llama")
    page.get_by_label("Prompt").fill(prompt * 300)
    page.get_by_label("Tokens, at most").fill(most)
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#model .problems")).to_contain_text(said)
    expect(page.get_by_role("button", name="Write")).to_be_enabled()
    page.get_by_label("Tokens, at most").fill("")
    assert not page.get_by_label("Tokens, at most").evaluate("node => node.checkValidity()")


BOTH = """() => ["Write", "Stop"].map((name) =>
  [...document.querySelectorAll("button")].find((one) => one.textContent === name).click())"""


def test_writing_stops_when_asked(page, address):
    visit(page, address, "?model=anna/llama")
    page.get_by_label("Prompt").fill("import torch\n")
    page.get_by_label("Tokens, at most").fill("2000")
    page.evaluate(BOTH)
    expect(page.locator("#model")).to_contain_text(", stopped", timeout=SLOW)
    assert len(json.loads(page.locator("#model").get_attribute("data-ids"))) < 4
    expect(page.get_by_role("button", name="Write")).to_be_enabled()


@pytest.mark.every
def test_a_temperature_gives_other_tokens(page, address):
    visit(page, address, "?model=anna/llama")
    page.get_by_label("Temperature").fill("2")
    page.get_by_label("Tokens, at most").fill("30")
    written = set()
    for _ in range(3):
        page.locator("#model").evaluate("node => delete node.dataset.ids")
        page.get_by_role("button", name="Write").click()
        page.wait_for_selector("#model[data-ids]", timeout=SLOW)
        written.add(page.locator("#model").get_attribute("data-ids"))
    assert len(written) > 1


def test_any_other_model_runs_on_numbers(page, address, models):
    visit(page, address, "?model=anna/cnn")
    expect(page.locator("#model td").first).to_have_text("input")
    page.get_by_label("Input, as JSON").fill(json.dumps({"input": {"dims": [1, 2, 6, 6], "data": 0.5}}))
    page.get_by_role("button", name="Run", exact=True).click()
    text = page.locator(".results .mono")
    expect(text).to_be_visible(timeout=SLOW)
    model = lottapack.load(models / "cnn.lotta.safetensors", merge=True).eval()
    with torch.no_grad():
        due = model(torch.full((1, 2, 6, 6), 0.5))[0]
    assert (torch.tensor([float(word) for word in text.inner_text().split(", ")]) - due).abs().max() < 1e-4


UNFIT = (
    ("{", "JSON: cannot be read"),
    ("[]", "should be an object with the inputs' names"),
    ("{}", "input: the input is missing"),
    ('{"input": 0, "other": 0}', "other: the graph does not have this input"),
    ('{"input": [[1, 2], [3]]}', "input: has rows of different lengths"),
    ('{"input": {"dims": [2], "data": [1]}}', "has 1 values, and its dims want 2"),
    ('{"input": {"dims": [1, 9, 6, 6], "data": 0}}', "ONNX Runtime cannot run the model on this input"),
    ('{"input": {"dims": [9999999999], "data": 0}}', "an input has at most"),
)


def test_input_that_does_not_fit_is_named(page, address):
    visit(page, address, "?model=anna/cnn")
    run = page.get_by_role("button", name="Run", exact=True)
    for written, said in UNFIT:
        page.get_by_label("Input, as JSON").fill(written)
        run.click()
        expect(page.locator("#model .problems")).to_contain_text(said)
        expect(run).to_be_enabled()


def test_a_pack_and_its_graph_are_dropped(page, address, models):
    page.goto(f"{address}web/run.html")
    drop(page, models / "anna" / "digits" / GRAPH)
    expect(page.locator(".verdict")).to_contain_text("a graph without its pack")
    drop(page, models / "digits.lotta.safetensors")
    expect(page.locator(".verdict")).to_contain_text("the pack holds no graph")
    drop(page, models / "anna" / "digits" / GRAPH)  # it goes with the last pack
    expect(page.locator(".verdict")).to_contain_text("Verified and running")
    drop(page, models / "digits.lotta.safetensors", models / "anna" / "digits" / GRAPH)
    expect(page.locator(".verdict")).to_contain_text("Verified and running")
    drop(page, models / "digits.lotta.safetensors", models / "cnn.lotta.safetensors")
    expect(page.locator(".verdict")).to_contain_text("Drop one pack and one graph.")


def test_a_model_is_opened_by_its_name(page, address):
    page.goto(f"{address}web/run.html")
    page.get_by_label("or a model of this server").fill("anna/digits")
    page.get_by_role("button", name="Open").click()
    page.wait_for_selector("canvas.pad", timeout=SLOW)
    assert page.url.endswith("?model=anna/digits")


def asking_for_all(pack: Path) -> bytes:
    """A graph with the weights of a pack, and nothing else."""
    import onnx

    model = onnx.ModelProto(ir_version=10)
    with lottapack.open_pack(pack) as opened:
        for name, entry in opened.descriptor.parameters.items():
            tensor = model.graph.initializer.add(name=name, data_type=1, dims=entry.shape, data_location=1)
            for key, said in (("location", "lottapack"), ("offset", "0"), ("length", str(4 * math.prod(entry.shape)))):
                tensor.external_data.add(key=key, value=said)
    return model.SerializeToString()


def test_tampered_packs_are_refused(page, address, models):
    whole = bytearray((models / "anna" / "digits" / PACK).read_bytes())
    whole[-1] ^= 1
    (models / "anna" / "damaged.lotta.safetensors").write_bytes(whole)
    verdict = visit(page, address, "?pack=/anna/damaged.lotta.safetensors")
    expect(verdict).to_contain_text("Damaged or changed")
    expect(page.locator("#model")).to_be_hidden()
    wrong = JS.parent / "v1" / "vectors" / "files" / "invalid" / "contents_fingerprint_seeded.lotta.safetensors"
    drop(page, wrong, {"name": GRAPH, "mimeType": "application/octet-stream", "buffer": asking_for_all(wrong)})
    expect(verdict).to_contain_text("rebuilt")
    expect(verdict).to_contain_text("(fingerprint)")


def rewritten(models, change) -> bytes:
    import onnx

    graph = onnx.load(models / "anna" / "digits" / GRAPH, load_external_data=False)
    change(graph)
    return graph.SerializeToString()


def elsewhere(graph):
    graph.graph.initializer[0].external_data[0].value = "/etc/passwd"


def constant(graph):
    import onnx

    node = onnx.helper.make_node("Constant", [], ["c"], value=onnx.TensorProto(name="c", data_type=1, dims=[1]))
    node.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="../secret")
    graph.graph.node.append(node)


def unknown(graph):
    graph.graph.node[0].op_type = "NoSuchOperator"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (elsewhere, 'reads this tensor from "/etc/passwd"'),
        (constant, 'reads this tensor from "../secret"'),
        (unknown, "ONNX Runtime refuses the graph"),
    ],
)
def test_graphs_that_reach_out_are_refused(page, address, models, change, said):
    page.goto(f"{address}web/run.html")
    written = {"name": GRAPH, "mimeType": "application/octet-stream", "buffer": rewritten(models, change)}
    drop(page, models / "digits.lotta.safetensors", written)
    expect(page.locator(".verdict")).to_contain_text(said)


def test_a_graph_of_another_model_is_refused(page, address):
    verdict = visit(page, address, "?model=anna/digits&graph=/anna/llama/model.onnx")
    expect(verdict).to_contain_text("The graph does not go with the pack")
    expect(verdict).to_contain_text("It is the graph of another model.")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?pack=https://example.org/a", "the page only reads from its own server"),
        ("?model=../secret", "is not the name of a model"),
        ("?model=anna/nothing", "the server answers 404"),
        ("?pack=/anna/digits/model.onnx", "not a safetensors file"),
        ("?pack=/anna/100%", "the server answers 404"),
    ],
)
def test_addresses_that_hold_no_pack(browser, address, query, said):
    page = browser.new_page()
    expect(visit(page, address, query)).to_contain_text(said)
    page.close()


def test_a_strangers_words_are_only_text(browser, address):
    page = browser.new_page()
    name = "<img src=x onerror=\"document.title='run'\">"
    expect(visit(page, address, f"?pack=/{name}")).to_contain_text(name)
    assert page.locator("main img").count() == 0
    page.close()


def test_weights_that_no_browser_holds_are_refused(page, address, models):
    page.goto(f"{address}web/run.html")
    drop(page, JS.parent / "v1" / "vectors" / "files" / "invalid" / "limit_constant.lotta.safetensors")
    expect(page.locator(".verdict")).to_contain_text("Too little memory")
    expect(page.locator(".verdict")).to_contain_text("lottapack run PACK")


def test_the_work_is_cancelled(page, address, models):
    page.route("**/digits/model.lotta.safetensors", lambda route: None)  # a download that does not end
    page.goto(f"{address}web/run.html?model=anna/digits")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".verdict")).to_contain_text("Cancelled")
    drop(page, models / "anna" / "digits" / PACK)
    expect(page.locator(".verdict")).to_contain_text("Verified and running")


KEPT = """async (address) => {
  const until = performance.now() + 60000;
  while (!(await caches.match(address)) && performance.now() < until) await new Promise((done) => setTimeout(done, 20));
  return Boolean(await caches.match(address));
}"""


def test_it_opens_again_without_a_server(browser, models, registry):
    context = browser.new_context()
    page = context.new_page()
    with registry(models) as address:
        visit(page, address, "?model=anna/llama")
        page.evaluate("() => navigator.serviceWorker.ready.then(() => 0)")
        assert page.evaluate(KEPT, f"{address}anna/llama/resolve/main/{PACK}")  # it is kept after the first answer
    expect(visit(page, address, "?model=anna/llama")).to_contain_text("Verified and running")
    expect(page.get_by_label("Prompt")).to_be_visible()
    context.close()


def test_a_lost_server_is_named(browser, address, models):
    page = browser.new_page()
    page.route("**/run/model.js", lambda route: route.abort())
    page.goto(f"{address}web/run.html")
    drop(page, models / "anna" / "digits" / PACK)
    expect(page.locator(".verdict")).to_contain_text("a part of the page cannot be loaded")
    page.close()


@pytest.mark.every
def test_without_shared_memory_it_runs_on_one_thread(watch, models, registry):
    with registry(models, {}) as address, watch(address) as page:
        visit(page, address, "?model=anna/llama")
        expect(page.locator("#measured")).to_contain_text("One thread: the browser gives this page no shared memory")
        page.evaluate("() => navigator.serviceWorker.ready.then(() => 0)")
        visit(page, address, "?model=anna/llama")  # the service worker adds the headers
        expect(page.locator("#measured")).not_to_contain_text("One thread")
        assert page.evaluate("() => crossOriginIsolated")


@pytest.mark.every
def test_a_copy_without_its_runtime_says_how_to_get_it(browser, models, tmp_path, monkeypatch, registry):
    bare = shutil.copytree(JS, tmp_path / "js", ignore=shutil.ignore_patterns("vendor", "test"))
    monkeypatch.setattr(pages, "folder", lambda: bare)
    with registry(models) as address:
        page = browser.new_page()
        verdict = visit(page, address, "?model=anna/digits")
        expect(verdict).to_contain_text("this copy of the page came without its runtime")
        expect(verdict).to_contain_text("make web")
        page.close()


WIDTH = "() => [document.documentElement.scrollWidth, innerWidth]"


# A scheme changes colours alone.
@pytest.mark.every
@pytest.mark.parametrize(("name", "scheme"), crossed(["digits", "cnn", "llama"], ["light", "dark"]))
def test_it_fits_a_telephone(watch, address, name, scheme):
    with watch(address, viewport={"width": 390, "height": 800}, color_scheme=scheme) as page:
        visit(page, address, f"?model=anna/{name}")
        assert page.evaluate(WIDTH) == [390, 390]
        assert page.evaluate("() => getComputedStyle(document.body).colorScheme") in ("normal", "light dark")


UNNAMED = """() => [...document.querySelectorAll("button, input, textarea, canvas, svg, progress")].filter((node) =>
  !node.hidden && !node.closest("[hidden], [aria-hidden]") && !node.labels?.length && !node.textContent.trim()
  && !node.getAttribute("aria-label") && !node.getAttribute("aria-labelledby")).map((node) => node.outerHTML)"""


@pytest.mark.every
@pytest.mark.parametrize("name", ["digits", "cnn", "llama"])
def test_every_control_has_a_name(page, address, name):
    visit(page, address, f"?model=anna/{name}")
    assert page.evaluate(UNNAMED) == []


FOR_NODE = re.compile(r'from "(node:|\./node\.js|\./protocol\.js)')


def files_of(*patterns):
    """The files of the pages: neither tests nor programs for Node."""
    found = {path.relative_to(JS).as_posix(): path for pattern in patterns for path in JS.glob(pattern)}
    own = {name: path for name, path in found.items() if not name.startswith(("test/", "vendor/")) and name != "sw.js"}
    return {name for name, path in own.items() if not FOR_NODE.search(path.read_text("utf-8"))}


def test_the_service_worker_keeps_every_file():
    text = (JS / "sw.js").read_text("utf-8")
    listed = re.search(r"const PAGES = \[(.*?)\];", text, re.DOTALL)[1]
    assert set(re.findall(r'"([^"]+)"', listed)) == files_of("*.html", "**/*.js", "**/*.css", "**/*.svg")
    for name in ("Content-Security-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy"):
        assert f'"{pages.HEADERS[name]}"' in text


IMPORTED = re.compile(r'(?:from |import\()"(\.[^"]+)"')


def test_every_module_of_the_page_is_preloaded():
    listed = set(re.findall(r'rel="modulepreload" href="([^"]+)"', (JS / "run.html").read_text("utf-8")))
    pending, reached = [JS / "run/page.js", JS / "run/engine.js"], set()
    while pending:
        path = pending.pop()
        name = path.relative_to(JS).as_posix()
        if name in reached or name.startswith("vendor/"):
            continue
        reached.add(name)
        pending += [(path.parent / found).resolve() for found in IMPORTED.findall(path.read_text("utf-8"))]
    assert listed == reached - {"run/page.js"}


def test_no_other_host_is_named():
    for path in [*JS.glob("*.js"), *JS.glob("*/*.js"), *JS.glob("*.html")]:
        if path.parent.name in ("vendor", "test"):
            continue
        hosts = set(re.findall(r"https?://[^/\s\"'`<]+", path.read_text("utf-8")))
        assert hosts <= {"http://127.0.0.1:8000", "http://www.w3.org"}, path


def test_several_workers_make_the_weights_of_a_larger_model(page, address, models):
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10))
    model = lottapack.scaffold(wide, seed=5, rank=2)
    path = models / "wide.lotta.safetensors"
    lottapack.pack(model, path)
    lottapack.onnx.export(path, models / "anna" / "wide", weights="none")
    visit(page, address, "?model=anna/wide")
    expect(page.locator("#measured")).to_contain_text(re.compile(r"weights by (\d workers|1 worker)"))
    found = json.loads(page.locator("#model").get_attribute("data-logits"))
    with torch.no_grad():
        due = lottapack.load(path, merge=True)(torch.zeros(1, 64))[0]
    assert (torch.tensor(found) - due).abs().max() < 1e-4


@pytest.mark.every
@pytest.mark.slow
def test_graphs_in_float16_give_the_weights_so(page, address, models):
    lottapack.onnx.export(models / "llama.lotta.safetensors", models / "anna" / "half", weights="none", dtype="float16")
    visit(page, address, "?model=anna/half")
    page.get_by_label("Prompt").fill("import torch\n")
    page.get_by_label("Tokens, at most").fill("3")
    page.get_by_role("button", name="Write").click()
    page.wait_for_selector("#model[data-ids]", timeout=SLOW)
    found = json.loads(page.locator("#model").get_attribute("data-ids"))
    model = lottapack.load(models / "llama.lotta.safetensors", merge=True, dtype="float16")
    prompt = transformers.AutoTokenizer.from_pretrained(models / "tokenizer")("import torch\n", return_tensors="pt")
    with torch.no_grad():
        logits = model(**prompt).logits[0, -1].float()
    assert logits[found[0]] > logits.max() - 0.02 * logits.abs().max()  # float16 rounds differently in each runtime


def test_the_registry_runs_a_model(watch, models, tmp_path):
    with background(tmp_path / "registry") as running:
        fill(running.url, "anna/digits", {PACK: (models / "anna" / "digits" / PACK).read_bytes()})
        with watch(running.url) as page:
            page.goto(f"{running.url}/anna/digits")
            page.locator("a[href*='run.html']").first.click()
            page.wait_for_selector(DONE, timeout=SLOW)
            expect(page.locator(".verdict")).to_contain_text("Verified and running")
            assert page.evaluate("() => crossOriginIsolated")
            draw(page, DRAWINGS[0])
            expect(page.locator(".answer")).to_contain_text("This is a 0 (")
            visit(page, f"{running.url}/-/", "?model=anna/digits&revision=main")
            expect(page.locator("canvas.pad")).to_be_visible()


GPU = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]


@pytest.mark.every
def test_webgpu_gives_the_same_logits(browser, address, models):
    with browser.browser_type.launch(executable_path=executable(), args=GPU) as other:
        page = other.new_page()
        page.goto(f"{address}web/run.html")
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        page.get_by_label("on the graphics card (WebGPU)").check()
        page.get_by_label("or a model of this server").fill("anna/digits")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector(DONE, timeout=SLOW)
        expect(page.locator("#measured")).to_contain_text("WebGPU")
        found = json.loads(page.locator("#model").get_attribute("data-logits"))
        with torch.no_grad():
            due = lottapack.load(models / "digits.lotta.safetensors", merge=True)(torch.zeros(1, 64))[0]
        assert (torch.tensor(found) - due).abs().max() < 1e-4
