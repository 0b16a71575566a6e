"""The fuzzer's targets and mutations without the fuzzer; and the fuzzer for some seconds, if installed."""

import importlib
import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest
import target
from fuzz import TARGETS
from mutation import mutated, put_together, take_apart

# Stopped may arrive in a callback of the garbage collector, where Python drops it; it is sent again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "spec" / "v1" / "vectors" / "files"
PACKS = sorted(path for path in VECTORS.glob("*/*.safetensors") if path.stat().st_size < 50_000)
SMALL = VECTORS / "valid" / "minimal.lotta.safetensors"
EXECUTIONS, SEED = 4000, 1


def test_the_mutations_leave_a_sound_pack_sound() -> None:
    for path in sorted((VECTORS / "valid").glob("*.safetensors")):
        parts = take_apart(path.read_bytes())
        assert parts is not None
        assert put_together(*parts) == path.read_bytes()
        assert mutated(path.read_bytes(), 1) == mutated(path.read_bytes(), 1)


def test_nothing_but_errors_of_the_tree_comes_out(tmp_path: Path) -> None:
    """The files are the same each time; `make fuzz` draws others."""
    path = target.scratch(tmp_path)
    draw = random.Random(SEED)
    outcomes = {True: 0, False: 0}
    data, accepted = b"", False
    try:
        for _ in range(EXECUTIONS):
            # An accepted file is changed further, so that faults combine; otherwise start again.
            source = data if accepted else draw.choice(PACKS).read_bytes()
            data = mutated(source, draw.randrange(2**32)) or b""
            accepted = target.one(data, path)
            outcomes[accepted] += 1
    except Exception as error:
        raise AssertionError(repr(data)) from error
    finally:
        path.unlink(missing_ok=True)
    assert outcomes[True] > 20
    assert outcomes[False] > EXECUTIONS // 2


@pytest.mark.parametrize("fault", [KeyError("a"), RecursionError(), MemoryError(), AssertionError(), OSError("disk")])
def test_the_target_notices_other_errors(fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise fault

    assert target.one(SMALL.read_bytes(), tmp_path / "a")
    monkeypatch.setattr(target, "open_pack", fail)
    with pytest.raises(type(fault)):
        target.one(SMALL.read_bytes(), tmp_path / "a")


def test_the_target_notices_what_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path, build: object = None) -> bool:
        return sum(range(10**6)) > 0

    monkeypatch.setattr(target, "SECONDS", 0.0)
    monkeypatch.setattr(target, "read", slow)
    with pytest.raises(target.SlowError):
        target.one(b"", tmp_path / "a")


@pytest.mark.every
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: make fuzz does it")
def test_the_fuzzer_runs_and_counts(tmp_path: Path) -> None:
    line = [sys.executable, HERE / "fuzz.py", "3", "--target", "pack"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("pack: ")
    assert int(done.stdout.split()[1].replace(",", "")) > 100


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_takes_its_first_inputs_and_changed_ones(name: str) -> None:
    """Call it as the fuzzer does."""
    module = importlib.import_module(f"targets.{name}")
    first = sorted(module.seeds(), key=len)[:20]
    assert first
    draw = random.Random(SEED)
    own = getattr(module, "mutated", lambda data, seed: None)
    for number in range(60):
        data = draw.choice(first) if number >= len(first) else first[number]
        if number >= len(first):
            data = own(data, draw.randrange(2**32)) or cut(data, draw)
        try:
            module.one(data)
        except Exception as error:
            raise AssertionError(repr(data[:1000])) from error


def cut(data: bytes, draw: random.Random) -> bytes:
    """Change one byte and remove some, like a fuzzer that does not know the structure."""
    start = draw.randrange(len(data) + 1)
    return data[:start] + draw.randbytes(1) + data[start + draw.randrange(4) :]


def test_every_bit_of_a_pack_counts(tmp_path: Path) -> None:
    """Set any byte to a value that differs in one bit, to 0, 255 or a space: the pack is refused."""
    whole, path = SMALL.read_bytes(), target.scratch(tmp_path)
    assert target.one(whole, path)
    accepted = [
        (place, value)
        for place, byte in enumerate(whole)
        for value in {*(byte ^ (1 << bit) for bit in range(8)), 0, 255, 32} - {byte}
        if target.read(written(path, whole[:place] + bytes([value]) + whole[place + 1 :]))
    ]
    path.unlink()
    assert accepted == []


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
