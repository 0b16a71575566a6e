"""A model card says what is true, is valid on the Hub, and never overwrites a person's words."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import lottapack
from lottapack.pushing.card import BEGIN, END, card
from lottapack.registry.records import PushOptions

PACK = Path(__file__).parents[2] / "tests" / "compat" / "v0.1.0" / "image.lotta.safetensors"
SHA = "ab" * 32
NOTHING = PushOptions()


@pytest.fixture
def new() -> str:
    return card(PACK, "my-org/digits", SHA, PushOptions(license="mit", datasets=("mnist",), metrics=("accuracy",)))


def test_the_front_matter_is_what_the_hub_reads(new: str) -> None:
    data = ModelCard(new).data
    assert data.library_name == "lottapack"
    assert "lottapack" in data.tags
    assert (data.license, data.datasets, data.metrics) == ("mit", ["mnist"], ["accuracy"])
    plain = ModelCard(card(PACK, "my-org/digits", SHA, NOTHING)).data
    assert (plain.license, plain.datasets, plain.metrics) == (None, None, None)


def test_the_facts_are_those_of_the_pack(new: str) -> None:
    summary, sizes = lottapack.inspect(PACK), lottapack.report(PACK)
    assert f"`{summary.architecture}`" in new
    assert f"{summary.numel:,}" in new
    assert f"seed {int(summary.seed, 16)}" in new
    assert SHA in new
    assert 'lottapack.load("my-org/digits")' in new
    rows = re.findall(r"^\| ([^|]*) \| ([\d,]+) \| ([\d.e+-]+) \|$", new, flags=re.MULTILINE)
    assert [int(size.replace(",", "")) for _, size, _ in rows] == [form.size for form in sizes.forms]
    assert rows[0][0] == "this pack"
    assert rows[1][0] == "full checkpoint, float32"


def test_the_same_push_makes_the_same_card(new: str) -> None:
    again = card(PACK, "my-org/digits", SHA, NOTHING, new)
    assert again == new
    assert new.count(BEGIN) == new.count(END) == 1


def test_only_the_text_between_the_markers_changes(new: str) -> None:
    edited = new.replace("# digits", "# My digits\n\nWritten by hand.").replace("- lora\n", "") + "\nAt the end.\n"
    edited = edited.replace("license: mit", "license: mit  # mine")
    updated = card(PACK, "my-org/digits", "cd" * 32, NOTHING, edited)
    assert updated == edited.replace(SHA, "cd" * 32)
    relicensed = card(PACK, "my-org/digits", SHA, PushOptions(license="apache-2.0"), edited)
    assert relicensed == edited.replace("license: mit  # mine", "license: apache-2.0")


@pytest.mark.parametrize(
    "old",
    [
        "# All my own\n",
        "---\nlicense: mit\n---\n# All my own\n",
        f"# One marker\n{BEGIN}\n",
        f"# Reversed\n{END}\n{BEGIN}\n",
        f"# Twice\n{BEGIN}\n{END}\n{BEGIN}\n{END}\n",
    ],
)
def test_a_card_without_markers_is_left_alone(old: str) -> None:
    assert card(PACK, "my-org/digits", SHA, PushOptions(license="apache-2.0"), old) == old


def test_front_matter_alone_gets_a_body() -> None:
    made = card(PACK, "my-org/digits", SHA, NOTHING, "---\nlicense: mit\n# mine\nlibrary_name: other\n---\n")
    assert made.startswith("---\nlicense: mit\n# mine\nlibrary_name: other\ntags:\n")
    assert BEGIN in made


def test_windows_lines_stay(new: str) -> None:
    windows = new.replace("\n", "\r\n")
    assert card(PACK, "my-org/digits", SHA, NOTHING, windows) == windows
    updated = card(PACK, "my-org/digits", "cd" * 32, PushOptions(license="apache-2.0"), windows)
    assert updated == windows.replace(SHA, "cd" * 32).replace("license: mit", "license: apache-2.0")


def test_broken_front_matter_is_a_persons_to_mend(new: str) -> None:
    broken = new.replace("license: mit", "license: [mit")
    assert card(PACK, "my-org/digits", SHA, PushOptions(license="x"), broken) == broken


def test_more_scaffolds_are_named() -> None:
    pack = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid" / "scaffolds.lotta.safetensors"
    made = card(pack, "my-org/gated", SHA, NOTHING)
    assert "| more scaffolds | `0.of_3` (seed 0), `task-b` (seed 43): `load(..., scaffold=NAME)` |\n" in made
    assert "more scaffolds" not in card(PACK, "my-org/digits", SHA, NOTHING)
