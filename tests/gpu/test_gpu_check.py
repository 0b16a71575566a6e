"""The script of ``make gpu``, tried on the CPU: its parts run, find differences, and stop in time."""

import json
import subprocess
import sys

import gpu_check
import gpu_parts
import pytest
import torch

from lottapack import rng

ROOT = gpu_check.ROOT
SCRIPT = ROOT / "benchmarks" / "gpu_check.py"


@pytest.mark.every
def test_its_parts_run_on_a_cpu(tmp_path):
    names = {path.name.partition(".")[0] for path in gpu_check.PACKS}
    assert {"frozen", "coded_trellis8"} <= names
    parts = ["fingerprints", "merged", "verify frozen"]
    command = [sys.executable, SCRIPT, "--device", "cpu", "--quick", "--out", tmp_path, "--only", *parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert list(report["parts"]) == parts
    assert report["parts"]["fingerprints"]["found"]["cases"] == 3 * 4 * len(rng.BUILTIN)
    assert report["parts"]["merged"]["found"]["tensors"] > 10


@pytest.mark.every
def test_loading_a_llama_gives_the_bits_of_its_checkpoint():
    pytest.importorskip("transformers")
    command = [sys.executable, ROOT / "benchmarks" / "gpu_parts.py", "load", "cpu", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    found = gpu_check._last_json(done.stdout)
    assert found["ok"]
    assert found["pack_bytes"] < found["checkpoint_bytes"]


def test_every_module_with_tests_for_a_gpu_is_run():
    names = {path.rpartition("/")[2] for path in gpu_check.gpu_tests()}
    assert {"test_equality.py", "test_virtual_triton.py", "test_load_memory.py"} <= names


def test_a_wrong_bit_is_found(monkeypatch):
    right, calls = rng.fill_, []

    def wrong(tensor, *given):
        calls.append(given)
        right(tensor, *given)
        if len(calls) == 2:  # the first 3,000 elements of the first case
            tensor[7] = -tensor[7]
        return tensor

    monkeypatch.setattr(rng, "fill_", wrong)
    found = gpu_parts.fingerprints(torch.device("cpu"), quick=True)
    (wrong,) = found["wrong"]
    assert wrong.endswith("float32: other bits from 0 on")
    assert not found["ok"]


@pytest.mark.parametrize(
    ("program", "fault"),
    [("import time; time.sleep(60)", "stopped after"), ("raise SystemExit('broken')", "broken"),
     ("print('text')", "cannot be read: did not print JSON"), ("print('{')", "cannot be read")],
    ids=["slow", "failing", "silent", "cut"],
)  # fmt: skip
def test_a_part_that_fails_says_why(program, fault):
    part = gpu_check.Part([sys.executable, "-c", program], 1, gpu_check._last_json)
    result = gpu_check.run(part, 1 if "sleep" in program else 30, {})
    assert not result["ok"]
    assert fault in result["fault"]


def test_what_a_part_printed_before_it_was_stopped_is_kept(monkeypatch):
    def stopped(command, **_):
        raise subprocess.TimeoutExpired(command, 1, output=b"test_one PASSED", stderr=None)

    monkeypatch.setattr(gpu_check.subprocess, "run", stopped)
    result = gpu_check.run(gpu_check.Part(["a"], 1, gpu_check._last_line), 1, {})
    assert result["fault"] == "test_one PASSED\nstopped after 1 s"
    assert not result["ok"]


def test_a_case_that_raises_does_not_hide_the_others(monkeypatch):
    right = rng.fingerprint_of

    def broken(one, count):
        if one.table.id == "normal8":
            raise RuntimeError("an illegal memory access")
        return right(one, count)

    monkeypatch.setattr(rng, "fingerprint_of", broken)
    found = gpu_parts.fingerprints(torch.device("cpu"), quick=True)
    assert found["wrong"] == [f"normal8 {dtype}: RuntimeError: an illegal memory access" for dtype in gpu_parts.DTYPES]


def test_lines_with_brackets_before_the_json_are_passed_over():
    assert gpu_check._last_json('[W1130 a warning]\n{"ok": true}\n') == {"ok": True}


def test_the_budget_is_under_ten_minutes():
    """What has a goal, and the bits, come before the tests, even if each part takes all of its time."""
    assert gpu_check.BUDGET < 10 * 60
    parts = gpu_check.parts("cuda", quick=False)
    first = list(parts)[:5]
    assert first == ["machine", "fingerprints", "merged", "bench_gpu", "load"]
    assert sum(parts[name].limit for name in first[:-1]) + 120 <= gpu_check.BUDGET
