"""All that is checked and measured on a GPU, in under ten minutes: ``make gpu``.

``python benchmarks/gpu_check.py [--device cuda] [--out FOLDER] [--site FOLDER] [--only PART ...] [--quick]``

It needs Python 3.11 or later, torch, Triton, what lottapack always needs, transformers for `load`, and pytest with
hypothesis for `tests`. It asks nothing of a network. ``--site``: a folder with packages that the machine lacks, such as
``make gpu-site`` fills. ``--quick`` makes everything small: with ``--device cpu`` it tries the script itself.

Each part runs in a process of its own, under its own limit of time; one that fails does not stop the others. What has
a goal comes first, then the tests. Results are printed as they come, and written to ``FOLDER/gpu.json`` after each.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OTHERS = ("computed", "dtypes", "experts", "files", "gpt2", "timm", "torch_cpu")
"""Packs that need transformers, timm, classes of the tests, or the torch that drew them."""
PACKS = tuple(
    path
    for path in sorted((ROOT / "tests" / "compat" / "v0.1.0").glob("*.lotta.safetensors"))
    if path.name.partition(".")[0] not in _OTHERS
)
"""Packs that were made on a CPU."""
VERIFIED = ("frozen", "coded_trellis8", "hadamard")
"""Packs that the command verifies. ``merged`` compares the fingerprints of all of them in one process."""
BUDGET = 560
"""The seconds for all parts together."""
UNLIMITED = 3600
"""The seconds for a part of ``--quick``, which may run beside anything."""
GOALS = {"normal16_of_fill": 0.5, "normal16_of_randn": 1.0, "virtual_of_bfloat16": 1.0, "load_to_checkpoint": 1.0}


@dataclass(frozen=True)
class Part:
    """A command, its limit in seconds, and what of its output is kept: see _last_json() and _last_line()."""

    command: list[str]
    limit: int
    read: Callable[[str], Any]


def parts(device: str, quick: bool) -> dict[str, Part]:
    """Return the parts by name; correctness comes first."""
    own = [sys.executable, str(Path(__file__).with_name("gpu_parts.py"))]
    command = [sys.executable, "-m", "lottapack_cli"]
    size = ["--quick"] if quick else []
    few = ["--rounds", "1"] if quick else []
    found = {
        "machine": Part([*own, "machine", device], 90, _last_json),
        "fingerprints": Part([*own, "fingerprints", device, *size], 150, _last_json),
        "merged": Part([*own, "merged", device, *size], 90, _last_json),
    }
    found["bench_gpu"] = Part(
        [sys.executable, str(Path(__file__).with_name("bench_gpu.py")), "--device", device, "--json", *few],
        90,
        _last_json,
    )
    found["load"] = Part([*own, "load", device, *size], 180, _last_json)
    for test in gpu_tests():
        # A warning of another version of torch, Triton or pytest is not what is tested.
        pytest = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--tb=short", "-W", "default"]
        found[f"tests of {Path(test).stem}"] = Part([*pytest, "-p", "no:cacheprovider", test], 150, _last_line)
    for pack in PACKS:
        name = pack.name.partition(".")[0]
        if name in VERIFIED:
            verify = [*command, "verify", str(pack), "--device", device, "--json"]
            found[f"verify {name}"] = Part(verify, 60, _last_json)
    found["bench virtual"] = Part([*command, "bench", "--virtual", "--device", device, "--json", *few], 60, _last_json)
    weights = ["--elements", "65536"] if quick else []
    found["bench"] = Part([*command, "bench", "--device", device, "--json", *few, *weights], 90, _last_json)
    return found


def gpu_tests() -> list[str]:
    """The modules with tests that need a GPU: others may need packages that the machine lacks."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in tests if "pytest.mark.gpu" in path.read_text("utf-8")]


def _last_json(output: str) -> Any:
    """Return the JSON at the end of the output, after any lines of other text."""
    lines, last = output.splitlines(), ValueError("did not print JSON")
    for first in range(len(lines)):
        if lines[first].startswith(("{", "[")):
            try:
                return json.loads("\n".join(lines[first:]))
            except ValueError as fault:  # a library's message may begin with a bracket too
                last = fault
    raise last


def _last_line(output: str) -> Any:
    return {"said": (output.strip().splitlines() or [""])[-1]}


def run(part: Part, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part for at most so many seconds. Return what it gave, or why it gave nothing, and the time it took."""
    begin = time.perf_counter()
    result: dict[str, Any] = {"ok": False}
    try:
        done = subprocess.run(
            part.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        result["ok"] = done.returncode == 0
        if done.returncode:
            result["fault"] = (done.stdout + done.stderr)[-3000:]
        result["found"] = part.read(done.stdout)
    except subprocess.TimeoutExpired as stopped:
        printed = [
            text if isinstance(text, str) else text.decode(errors="replace")
            for text in (stopped.stdout, stopped.stderr)
            if text
        ]
        result["fault"] = "".join(printed)[-3000:] + f"\nstopped after {seconds:.0f} s"
    except OSError as fault:
        result["fault"] = f"cannot be started: {fault}"
    except ValueError as fault:
        result |= {"ok": False, "fault": result.get("fault") or f"the output cannot be read: {fault}"}
    return result | {"seconds": round(time.perf_counter() - begin, 1)}


def headline(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the figures that have a goal, as far as they were measured."""
    found: dict[str, Any] = {}
    measured = results.get("bench_gpu", {}).get("found") or {}
    if "normal16" in measured:
        found["normal16_of_fill"] = measured["normal16"]["bfloat16"]["of_fill"]
        found["normal16_of_randn"] = measured["normal16"]["bfloat16"]["of_randn"]
        found["virtual_of_bfloat16"] = measured["virtual"]["of_bfloat16"]
    loaded = results.get("load", {}).get("found") or {}
    if "checkpoint_s" in loaded:
        found["load_to_checkpoint"] = loaded["checkpoint_s"] / loaded["load_s"]
        found["load_peak"] = loaded["load_peak"]
    return found


def main() -> None:
    """Run all parts, print and write what they found; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--site", type=Path)
    parser.add_argument("--only", nargs="+", metavar="PART")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    paths = [ROOT, ROOT / "cli", *([asked.site.resolve()] if asked.site else [])]
    path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    # A part's own folder for compiled modules may be read-only; and no part may ask a network.
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    asked.out.mkdir(parents=True, exist_ok=True)
    begin, results = time.perf_counter(), dict[str, dict[str, Any]]()
    for name, part in parts(asked.device, asked.quick).items():
        if asked.only and name not in asked.only:
            continue
        left = BUDGET - (time.perf_counter() - begin)
        limit = UNLIMITED if asked.quick else min(part.limit, left)
        results[name] = run(part, limit, environment) if limit > 5 else {"ok": False, "fault": "no time left"}
        print(
            f"{name:<20}{'ok' if results[name]['ok'] else 'FAILED':<8}{results[name].get('seconds', 0):>7.1f} s",
            flush=True,
        )
        if not results[name]["ok"]:
            print("    " + results[name].get("fault", "")[-600:].replace("\n", "\n    "), flush=True)
        report = {"device": asked.device, "quick": asked.quick, "headline": headline(results), "parts": results}
        (asked.out / "gpu.json").write_text(json.dumps(report, indent=1))
    for name, value in headline(results).items():
        goal = f" (goal: over {GOALS[name]})" if name in GOALS else ""
        print(f"{name:<24}{value:.3f}{goal}")
    print(f"{time.perf_counter() - begin:.0f} s; {asked.out / 'gpu.json'}")
    sys.exit(not all(result["ok"] for result in results.values()))


if __name__ == "__main__":
    main()
