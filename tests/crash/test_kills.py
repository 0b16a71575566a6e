"""Real kills at random moments; ``make crash N=1000`` runs more of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).with_name("crash.py")


@pytest.mark.every
@pytest.mark.slow
def test_two_dozen_kills_lose_nothing() -> None:
    pytest.importorskip("huggingface_hub")
    done = subprocess.run([sys.executable, CRASH, "24"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, old, new, mixed, lost = map(int, re.findall(r"\| (\d+) ", done.stdout.splitlines()[-1]))
    assert kills == 24
    assert old + new + mixed == kills
    assert lost == 0


LOSES = """
import random, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from kills import LostError, kill_often
from scenarios import Export

class Careless(Export):
    def prepare(self):
        for word in ("old", "new", "out"):
            (self.folder / word).mkdir()
        for word in ("old", "new"):
            (self.folder / word / self.made).write_bytes(word.encode() * 1_000_000)

    def run(self):
        with self.out.open("wb") as file:
            for piece in range(100):
                file.write(b"new" * 10_000)
            time.sleep(0.0005)

try:
    kill_often(Careless(Path(sys.argv[2])), 100, random.Random(0))
except LostError as fault:
    print(fault)
"""


def test_a_careless_writer_is_noticed(tmp_path: Path) -> None:
    line = [sys.executable, "-c", LOSES, CRASH.parent, tmp_path]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert "is a third thing" in done.stdout, done.stdout + done.stderr
