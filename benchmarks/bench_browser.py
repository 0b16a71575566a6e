"""Time the first answer of a model in Chromium, from asking for the page's address, with an empty cache.

``python benchmarks/bench_browser.py [--rounds N] [--models FOLDER] [--json]`` (``make bench-browser``)

It needs Chromium, and the page's runtime (``make web``). A registry on loopback has a perceptron for digits of 8 by 8
pixels, and a 30M Llama with adapters on q, k, v and o. Each round visits both, so that what else the machine does
meets both alike; the first round is left out. Times are medians; the processor's are of the browser and the registry.
``--models``: where the packs are kept for the next time.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from playwright.sync_api import Browser, sync_playwright

import lottapack
from lottapack.reports.llamas import LLAMAS, trained_state
from lottapack_serve import background

PACK = "model.lotta.safetensors"
GOALS = {"digits": 1.0, "llama": 3.0}
TICKS = os.sysconf("SC_CLK_TCK")


def digits(path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=8), path)


def llama(path: Path) -> None:
    lottapack.pack(trained_state(LLAMAS["30M"]), path, compression=lottapack.Compression(dtype="float16"))


def processor_time() -> float:
    """Return the seconds that this process and all that it started have taken, as Linux counts them."""
    used, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        used[int(folder.name)] = sum(map(int, fields[11:15])) / TICKS
    own = {os.getpid()}
    while more := {number for number, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(used[number] for number in own)


def visit(browser: Browser, address: str) -> dict[str, float]:
    """Open a page in a new context, as on a first visit; return the milliseconds of its stages."""
    context = browser.new_context()
    page = context.new_page()
    before = processor_time()
    page.goto(address)
    page.wait_for_selector("#measured:not([hidden]), .verdict.bad", timeout=90_000)
    used = processor_time() - before
    spent = page.evaluate("() => document.querySelector('#measured').dataset.spent")
    if spent is None:
        raise SystemExit(page.locator(".verdict").inner_text())
    context.close()
    return {**json.loads(spent), "processor": 1000 * used}


def pack_of(make: Callable[[Path], None], home: Path) -> Path:
    """Return the pack of a model with its graph; make it unless it is there."""
    path = home / make.__name__ / PACK
    if not path.exists():
        bare = home / f"{make.__name__}.lotta.safetensors"
        make(bare)
        lottapack.onnx.export(bare, path.parent, weights="none")
    return path


def measure(rounds: int, home: Path) -> dict[str, Any]:
    """Return for each model its size in bytes and the stages of every round, in milliseconds."""
    home.mkdir(exist_ok=True, parents=True)
    packs = {make.__name__: pack_of(make, home) for make in (digits, llama)}
    load = os.getloadavg()[0]
    visits: dict[str, list[dict[str, float]]] = {name: [] for name in GOALS}
    with tempfile.TemporaryDirectory() as folder, background(Path(folder)) as running, sync_playwright() as playwright:
        hub = HfApi(running.url, token=False)
        for name, pack in packs.items():
            hub.create_repo(f"anna/{name}")
            hub.upload_file(path_or_fileobj=pack, path_in_repo=PACK, repo_id=f"anna/{name}")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for _ in range(rounds + 1):
            for name in GOALS:
                visits[name].append(visit(browser, f"{running.url}/-/web/run.html?model=anna/{name}"))
        browser.close()
    models = {name: {"bytes": packs[name].stat().st_size, "rounds": visits[name][1:]} for name in GOALS}
    return {"models": models, "load_before": load, "load_after": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(given.rounds, given.models or Path(folder))
    if given.json:
        print(json.dumps(result, indent=1))
        return
    for name, found in result["models"].items():
        rounds = found["rounds"]
        median = {stage: statistics.median(one[stage] for one in rounds) for stage in rounds[0]}
        every = sorted(one["first answer"] / 1000 for one in rounds)
        print(f"{name}, {found['bytes'] / 1e6:.2f} MB, {len(rounds)} rounds, aim {GOALS[name]} s")
        print(f"  first answer after {median.pop('first answer') / 1000:.2f} s ({every[0]:.2f} to {every[-1]:.2f})")
        print(f"  processor time {median.pop('processor') / 1000:.2f} s")
        print("  " + ", ".join(f"{stage} {spent:.0f} ms" for stage, spent in median.items()))
    print(f"load {result['load_before']:.1f} before, {result['load_after']:.1f} after")


if __name__ == "__main__":
    main()
