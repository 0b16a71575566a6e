"""A model card is true, valid on the Hub, and keeps a person's text."""

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


def test_results_are_those_of_this_file() -> None:
    reached = PushOptions(results=(("test | accuracy", "99.1 %"), ("loss", "0.03")))
    made = card(PACK, "my-org/digits", SHA, reached)
    table = "| result | value |\n| --- | ---: |\n| test \\| accuracy | 99.1 % |\n| loss | 0.03 |\n\n"
    assert table in made
    assert card(PACK, "my-org/digits", SHA, NOTHING, made) == made
    windows = made.replace("\n", "\r\n")
    assert card(PACK, "my-org/digits", SHA, NOTHING, windows) == windows
    assert "99.1 %" not in card(PACK, "my-org/digits", "cd" * 32, NOTHING, made)  # another file reached something else


def test_no_table_has_an_empty_head_and_nothing_is_said_of_markers(new: str) -> None:
    assert not re.search(r"^\|[ |]*\|$", new, re.MULTILINE)
    assert "marker" not in new


def test_a_language_model_says_how_it_writes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = lottapack.scaffold(transformers.GPT2LMHeadModel(config), seed=1, rank=2)
    lottapack.pack(model, tmp_path / "gpt.lotta.safetensors")
    made = card(tmp_path / "gpt.lotta.safetensors", "my-org/gpt", SHA, NOTHING)
    assert ModelCard(made).data.pipeline_tag == "text-generation"
    assert "$ lottapack run my-org/gpt --tokens 1,2,3 --new 50" in made
    assert "pipeline_tag" not in card(PACK, "my-org/digits", SHA, NOTHING)


def test_more_scaffolds_are_named() -> None:
    pack = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid" / "scaffolds.lotta.safetensors"
    made = card(pack, "my-org/gated", SHA, NOTHING)
    assert "| more scaffolds | `0.of_3` (seed 0), `task-b` (seed 43): `load(..., scaffold=NAME)` |\n" in made
    assert "more scaffolds" not in card(PACK, "my-org/digits", SHA, NOTHING)
