"""The tool that changes our readers rule by rule."""

import json
import os
import subprocess
import sys
from pathlib import Path

from changes import mutants

SHAPES = "lottapack/format/shapes.py"
PYTHON = """
from typing import Final
LIMIT: Final = 8
def check(out: list | None, value: int) -> None:
    if value > LIMIT and out:
        out.add("shape", f"{value + 1}")
        raise ValueError
    return value * 2
"""


def test_rules_are_changed_one_at_a_time():
    found = [mutant.key.partition(" :: ")[2] for mutant in mutants("a.py", PYTHON)]
    assert sorted(found) == sorted(
        ["8 to 7", "8 to 9", "> to >=", "and to or", "if False", "if True", "without the refusal", "without raise"]
    )
    assert {mutant.within for mutant in mutants("a.py", PYTHON)} == {"", "check"}


def test_arithmetic_is_changed_in_what_computes_bits():
    before = {mutant.source for mutant in mutants("a.py", PYTHON)}
    more = [mutant for mutant in mutants("a.py", PYTHON, of_bits=True) if mutant.source not in before]
    assert [mutant.key for mutant in more] == [
        "return value * 2 :: * to +",
        "return value * 2 :: 2 to 1",
        "return value * 2 :: 2 to 3",
    ]


OUTCOMES = f"""
import json
from pathlib import Path
import mutate
from changes import mutants
from lottapack.conformance.kit import cases

source = (mutate.ROOT / "{SHAPES}").read_text("utf-8")
every = mutants("{SHAPES}", source)
of_limit = next(mutant for mutant in every if mutant.key == "MAX_DIMENSIONS = 8 :: 8 to 9")
words = ("valid/minimal", "_shape_nine", "_shape_dimensions", "_shape_")
some = [case for case in cases(mutate.KIT) if any(word in case.place for word in words)]
reader = mutate.Package(Path(), some)
found = [reader.first(of_limit, some), reader.first(of_limit._replace(source=source), some)]
found.append(reader.first(of_limit._replace(source="import nothing_of_this_name"), []))
reader.seconds = 1.0
found.append(reader.first(of_limit._replace(source="while True: pass"), []))
print(json.dumps(found))
"""


def test_mutants_of_the_python_reader_are_caught_and_the_module_itself_is_not():
    """In a process of its own, which has not imported the reader, as ``make mutants`` is."""
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", OUTCOMES], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    limit, itself, missing, endless = json.loads(done.stdout)
    assert "files/invalid" in limit
    assert (itself, missing, endless) == ("", "cannot be imported", "ends or does not")
