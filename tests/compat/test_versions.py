"""Packs of other versions: handled as spec/v1/versions.md says, with the version named."""

import hashlib
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from write import HERE, SUFFIX, facts

import lottapack
from lottapack.errors import DescriptorError
from lottapack.format.descriptor import FORMAT_VERSION

PACK = HERE / "v0.1.0" / f"image{SUFFIX}"
MAJOR, MINOR = map(int, FORMAT_VERSION.split("."))
LATER = f"{MAJOR}.{MINOR + 1}"


def changed(target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a pack with another descriptor, otherwise valid."""
    whole = PACK.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    descriptor = json.loads(header["__metadata__"]["lottapack"])
    change(descriptor)
    text = dump(descriptor)
    header["__metadata__"] = {"lottapack": text.decode(), "lottapack.sha256": hashlib.sha256(text).hexdigest()}
    made = dump(header)
    made += b" " * (-len(made) % 8)
    target.write_bytes(len(made).to_bytes(8, "little") + made + whole[start:])
    return target


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def put(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda descriptor: descriptor.update(fields)


def on_a_parameter(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda descriptor: descriptor.update(lottapack=LATER) or descriptor["parameters"]["0.weight"].update(fields)


def bits(path: Path) -> Any:
    return facts(path)["merged_sha256"]


def test_the_released_pack_is_of_the_first_version() -> None:
    assert lottapack.inspect(PACK).format_version == "1.0"


@pytest.mark.parametrize("version", [f"{MAJOR}.{minor}" for minor in (MINOR, MINOR + 1, 999_999_999)])
def test_a_later_minor_version_with_what_is_known(version: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "a", put(lottapack=version))
    assert bits(path) == bits(PACK)
    assert lottapack.verify(path).ok


def test_a_later_minor_version_with_an_unknown_optional_field(tmp_path: Path) -> None:
    for change in (put(lottapack=LATER, **{"x-sparsity": {"a": [1.5]}}), on_a_parameter(**{"x-note": None})):
        path = changed(tmp_path / "a", change)
        assert bits(path) == bits(PACK)


REQUIRED = {
    "top": (put(lottapack=LATER, sparsity={}), "the field \"sparsity\" is unknown"),
    "parameter": (on_a_parameter(sparsity=0.5), "sparsity"),
    "role": (on_a_parameter(role="hashed"), "unknown role 'hashed'"),
    "distribution": (on_a_parameter(distribution="normal32"), "unknown distribution 'normal32'"),
    "generator": (
        lambda d: d.update(lottapack=LATER) or d["rng"].update(id="philox4x32-12"),
        "unknown generator 'philox4x32-12'",
    ),
    "family": (
        lambda d: d.update(lottapack=LATER) or d["architecture"].update(family="jax"),
        "unknown family 'jax'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUIRED)
def test_a_later_minor_version_with_something_unknown_that_counts(name: str, tmp_path: Path) -> None:
    change, words = REQUIRED[name]
    path = changed(tmp_path / "a", change)
    with pytest.raises(DescriptorError) as caught:
        lottapack.load(path)
    assert words in str(caught.value)
    assert caught.value.hint == f"It has format {LATER}, which a newer lottapack may have written. Upgrade lottapack."


def test_the_same_without_a_later_version_blames_no_version(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError) as caught:
        lottapack.load(changed(tmp_path / "a", put(lottapack=FORMAT_VERSION, sparsity={})))
    assert caught.value.hint == ""


@pytest.mark.parametrize("version", [f"{MAJOR + 1}.0", "0.9"])
def test_another_major_version(version: str, tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match=f"has format {version}, but this reader knows {FORMAT_VERSION}"):
        lottapack.load(changed(tmp_path / "a", put(lottapack=version)))


def test_the_packs_of_the_next_version_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a release day, write.py writes a folder that these tests read."""
    shutil.copy(HERE / "write.py", tmp_path)
    monkeypatch.setattr(lottapack, "__version__", "9.9.9")
    monkeypatch.setattr(sys, "argv", ["write.py", "9.9.9"])
    runpy.run_path(str(tmp_path / "write.py"), run_name="__main__")
    written = sorted((tmp_path / "v9.9.9").glob(f"*{SUFFIX}"))
    before = {path.name for path in (HERE / "v0.1.0").glob(f"*{SUFFIX}")}
    assert {path.name for path in written} | {f"timm{SUFFIX}"} == before
    for path in written:
        assert facts(path) == json.loads(path.with_name(path.name.replace(SUFFIX, ".json")).read_text("utf-8"))
    with pytest.raises(FileExistsError):
        runpy.run_path(str(tmp_path / "write.py"), run_name="__main__")
