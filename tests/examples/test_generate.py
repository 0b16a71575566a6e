"""The example with a virtual backbone, and its large shape in the benchmark, with tiny sizes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import bench_virtual
import generate
import pytest

from lottapack import limits

pytest.importorskip("transformers")
if not Path("/proc/self/status").exists():
    pytest.skip("the system does not say what is in memory", allow_module_level=True)

ROOT = Path(__file__).parents[2]
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 7000,
    "tie_word_embeddings": False,
}
HOLLOW = TINY | {"hidden_size": 512, "num_hidden_layers": 4, "intermediate_size": 16384}
BACKBONE = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128) * 4
"""Bytes of what is generated in TINY."""


@pytest.fixture(autouse=True)
def here(monkeypatch, capsys):
    """Use small shapes, and run in this process what the example runs in others."""

    def in_this_process(*arguments):
        generate.child(*map(str, arguments))
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(generate, "LARGE", {"tiny": TINY, "hollow": HOLLOW})
    monkeypatch.setattr(generate, "in_new_process", in_this_process)


def test_packing_takes_no_memory_for_the_backbone(tmp_path):
    generate.warm_up()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = generate.resident("VmRSS")
    took = generate.packing("hollow", tmp_path)
    grown = took["whole_peak_bytes"] - before
    backbone = 4 * (512 * 512 * 2 + 512 * 256 * 2 + 3 * 512 * 16384) * 4
    assert took["model_bytes"] < 40_000_000
    assert grown < 100_000_000 < backbone / 4  # can be less than the model's: free memory is reused


def test_both_ways_write_the_same_tokens(tmp_path, capsys):
    report = generate.compared("tiny", generate.WAYS, "float32", 3, tmp_path)
    virtual, materialised = report["rows"]
    assert (virtual["backbone_bytes"], materialised["backbone_bytes"]) == (0, BACKBONE)
    assert materialised["model_bytes"] == virtual["model_bytes"] + BACKBONE
    assert virtual["model_bytes"] > 2 * 7000 * 64 * 4  # embeddings and a separate head
    assert virtual["tokens"] == materialised["tokens"]
    assert len(virtual["tokens"]) == 3
    assert 0 < report["largest_difference"] < 1e-5
    for row in report["rows"]:
        assert row["whole_peak_bytes"] >= row["libraries_bytes"] > row["activation_bytes"] > 7000 * 4
    assert generate.show(report) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("virtual, float32 ")
    assert lines[4].startswith("materialised, float32 ")
    assert "times model and activations" in lines[-2]


def test_a_way_without_room_is_left_out(tmp_path, monkeypatch, capsys):
    report = generate.compared("tiny", ["virtual"], "float32", 1, tmp_path)
    free = report["rows"][0]["model_bytes"] + BACKBONE // 2
    monkeypatch.setattr(limits, "free_memory", lambda _: free)
    report = generate.compared("tiny", generate.WAYS, "float32", 1, tmp_path)
    assert report["largest_difference"] is None
    assert ["refused" in row for row in report["rows"]] == [False, True]
    assert generate.show(report) == 0
    assert f"but only {limits.size_text(free)} are free on cpu" in capsys.readouterr().out
    monkeypatch.setattr(limits, "free_memory", lambda _: 10_000)
    assert generate.show(generate.compared("tiny", generate.WAYS, "float32", 1, tmp_path)) == 1


def test_a_full_disk_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 10**6))
    assert generate.show(generate.compared("tiny", generate.WAYS, "float32", 1, tmp_path)) == 1
    assert "the pack of tiny needs 3.6" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_benchmark_prints_the_goal_of_the_large_shape(monkeypatch, capsys):
    monkeypatch.setattr(bench_virtual, "LARGE", "tiny")
    found = bench_virtual.measure_large()
    wide, narrow = found["rows"]
    assert (wide["dtype"], narrow["dtype"]) == generate.DTYPES
    assert narrow["model_bytes"] < 0.6 * wide["model_bytes"]
    assert 1e-4 < found["bfloat16_difference"] < 0.1
    bench_virtual.show_large(found)
    printed = capsys.readouterr().out
    assert f"/ (adapters + stored + activations) {wide['whole_ratio']:.2f} (goal: at most 1.2)" in printed
    assert "weights of the backbone 0 bytes (goal: 0)" in printed


@pytest.mark.every
@pytest.mark.slow
def test_the_command_starts_processes_of_its_own():
    command = [sys.executable, ROOT / "examples" / "generate.py", "--scale", "3M", "--ways", "virtual", "--new", "2"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["way"], row["backbone_bytes"], len(row["tokens"])) == ("virtual", 0, 2)
    assert row["whole_peak_bytes"] >= row["libraries_bytes"] + row["model_bytes"]
