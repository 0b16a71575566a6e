"""``lottapack study``, and the picture of ``lottapack inspect``."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import Files, Run

ROOT = Path(__file__).parents[2]
TASK = """
import time
from torch import nn


def build(seed):
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def train(model, seed, rank):
    time.sleep({pause})
    return 0.9 if rank is None else 0.9 - 0.1 / rank**2


def loss(model, seed, rank):
    return 1 - train(model, seed, rank)


number = 3
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "task.py").write_text(TASK.format(pause=0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "task", raising=False)
    return tmp_path


def test_study_says_the_smallest_rank(run: Run, task: Path) -> None:
    result = run("study", "task:train", "--ranks", "1,2,8", "--seeds", "2")
    assert (result.code, result.err) == (0, "")
    assert "smallest rank  4" in result.out
    found = json.loads(run("study", "task:loss", "--minimise", "--ranks", "1,2,8", "--json").out)
    assert found["rank"] == 4
    assert [point["rank"] for point in found["curve"]] == [1, 2, 3, 4, 5, 8]


def test_study_draws_and_prints_a_table(run: Run, task: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run("study", "task:train", "--ranks", "1,4", "--seeds", "1", "--markdown", "--plot", task / "ranks.svg")
    assert result.out.startswith("| | score | seeds |")
    assert "reaches full training within 0.01" in (task / "ranks.svg").read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["task"], "name a module and a function"),
        (["other:train"], "cannot find the module other"),
        (["task:other"], "module task does not define other"),
        (["task:number"], "is not a function"),
        (["task:train", "--ranks", "1,x"], "--ranks '1,x': expected numbers"),
        (["task:train", "--ranks", "0"], "ranks=(0,)"),
        (["task:train", "--workers", "0"], "workers=0 runs nothing"),
        (["task:train", "--json", "--markdown"], "choose --json or --markdown"),
    ],
)
def test_study_names_what_is_wrong(run: Run, task: Path, line: list[str], said: str) -> None:
    result = run("study", *line)
    assert result.code == 2
    assert said in result.out + result.err


@pytest.mark.every
def test_a_killed_study_continues(task: Path) -> None:
    (task / "task.py").write_text(TASK.format(pause=0.5))
    command = [sys.executable, "-m", "lottapack", "study", "task:train", "--ranks", "1,2,4", "--seeds", "2"]
    command += ["--record", "runs.jsonl", "--json"]
    record = task / "runs.jsonl"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'cli'}"}
    with subprocess.Popen(command, cwd=task, env=environment, stdout=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not record.exists() or len(record.read_text().splitlines()) < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = record.read_text().splitlines()
    done = subprocess.run(command, cwd=task, env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout)["rank"] == 4
    after = record.read_text().splitlines()
    assert after[: len(before)] == before
    assert len(after) == len(set(after))


def test_inspect_shows_and_draws_betas(run: Run, files: Files, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "betas.svg"
    result = run("inspect", files.pack, "--plot", picture)
    assert result.code == 0
    assert "beta" in result.out
    assert "factor of the backbone" in picture.read_text()
    assert json.loads(run("inspect", files.pack, "--plot", picture, "--json").out)["plot"] == str(picture)
