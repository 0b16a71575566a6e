"""The demo detects a changed pack."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_runs import Run

import lottapack
from lottapack_cli.demo import sharing, training


def test_all_is_rebuilt_and_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 3)
    result = run("demo", "--output", tmp_path / "kept", "--json")
    record = json.loads(result.out)
    assert (result.code, record["same"], record["differing"]) == (0, True, [])
    assert record["before"] == record["after"]
    assert record["verified"] is True
    assert (record["reference"], len(record["revision"])) == ("demo/digits@v1", 40)
    assert record["before"]["weights"].keys() >= {"0.backbone", "0.lora_A", "2.backbone", "2.beta", "4.bias"}
    assert record["before"]["correct"] / record["before"]["total"] > 0.9
    assert record["ratio"] > 10
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "kept").iterdir()}
    assert sizes == {record["pack"]: record["pack_size"], record["full"]: record["full_size"]}


def test_another_backbone_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the pack by one of another seed before the push."""
    push = sharing.push

    def swapped(shop: sharing.Shop, pack: Path) -> dict[str, object]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "SEED", 43)
            lottapack.pack(training.build(), pack)
        return push(shop, pack)

    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(training, "EPOCHS", 1)
    monkeypatch.setattr(sharing, "push", swapped)
    result = run("demo")
    assert result.code == 1
    assert "DIFFERENT" in result.out
    told = result.out.partition("DIFFERENT")[2]
    assert [word for word in ("0.backbone", "test accuracy", "the pulled file") if word not in told] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="missing: make")
def test_make_demo_shows_what_pip_does(tmp_path: Path) -> None:
    line = ["make", "--dry-run", "--always-make", "demo", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    installs = [line for line in done.stdout.splitlines() if " install " in line]
    assert any(".[demo]" in line for line in installs)
    assert all("--quiet" not in line for line in installs)
