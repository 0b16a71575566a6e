"""Object files of kernels that come with lottapack: which one is used, and when none is."""

import hashlib
import itertools

import msgspec
import numpy as np
import pytest

from lottapack.rng.kernels import compiler, declared, machine, object_files, shipped
from lottapack.rng.kernels.kernel import Kernel
from lottapack.rng.kernels.machine import Processor
from lottapack.rng.kernels.source_digest import source_digest

MODULE = declared.FINGERPRINT.module
HERE = Processor("x86_64-unknown-linux-gnu", "some", "+avx,+avx2,-avx512f")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to ship from, without what this checkout may have."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(shipped, "processor", lambda: HERE)
    shipped._listed.cache_clear()
    yield tmp_path
    shipped._listed.cache_clear()


def ship(folder, *entries):
    """Write the list and a file for each entry, which holds the entry's number."""
    listed = []
    for number, changes in enumerate(entries):
        code = str(number).encode()
        (folder / f"{number}.o").write_bytes(code)
        listed.append({
            "name": "fingerprint-u32", "module": MODULE, "platform": "x86_64-linux", "features": [],
            "sources": source_digest(MODULE), "file": f"{number}.o", "sha256": hashlib.sha256(code).hexdigest(),
            **changes,
        })  # fmt: skip
    (folder / shipped.LIST).write_bytes(msgspec.json.encode(listed))


def read():
    return shipped.read("fingerprint-u32", MODULE)


def test_the_first_file_whose_features_the_processor_has_is_used(folder):
    ship(folder, {"features": ["avx512f"]}, {"features": ["avx", "avx2"]}, {})
    assert read() == b"1"


@pytest.mark.parametrize(
    "changes",
    [{"platform": "aarch64-linux"}, {"platform": "x86_64-windows"}, {"name": "fill-u32"}, {"module": "other"},
     {"sources": source_digest("lottapack.products.kernels")}, {"sha256": hashlib.sha256(b"1").hexdigest()},
     {"file": "absent.o"}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_file_for_another_system_or_source_is_not_used(folder, changes):
    ship(folder, changes)
    assert read() is None


@pytest.mark.parametrize("content", [b"", b"[", b'[{"name": 3}]'])
def test_a_damaged_list_counts_as_none(folder, content):
    (folder / shipped.LIST).write_bytes(content)
    assert read() is None


def test_a_processor_that_the_environment_chooses_gets_its_own_code(folder, monkeypatch):
    ship(folder, {})
    monkeypatch.setattr(shipped, "processor", lambda: Processor(HERE.triple, "generic", "", chosen=True))
    assert read() is None


def test_a_shipped_kernel_runs_without_compiling(folder, monkeypatch):
    this = machine.processor()
    monkeypatch.setattr(shipped, "processor", lambda: Processor(this.triple, this.name, this.features))
    (code,) = (code for name, code in declared.FINGERPRINT.compiled() if name == "fingerprint-u32")
    ship(folder, {"platform": shipped.platform(this), "sha256": hashlib.sha256(code).hexdigest()})
    (folder / "0.o").write_bytes(code)
    monkeypatch.setattr(object_files, "read", lambda *_: None)
    monkeypatch.setattr(compiler, "object_file", lambda *_: pytest.fail("compiled"))
    numbers = np.arange(1000, dtype=np.uint32)
    kernel = Kernel(MODULE, "fingerprint", "bits[] u64")
    assert kernel(numbers, 7) == declared.FINGERPRINT(numbers, 7)


@pytest.mark.parametrize("targets", shipped.TARGETS.values(), ids=shipped.TARGETS)
def test_targets_go_from_the_best_to_one_for_all_processors(targets):
    for better, worse in itertools.pairwise(targets):
        assert set(worse.features) < set(better.features)
    assert targets[-1].features == ()
    assert len({target.label for target in targets}) == len(targets)


@pytest.mark.parametrize(
    ("triple", "expected"),
    [("x86_64-unknown-linux-gnu", "x86_64-linux"), ("x86_64-alpine-linux-musl", "x86_64-linux"),
     ("arm64-apple-darwin24.1.0", "arm64-darwin"), ("x86_64-pc-windows-msvc-elf", "x86_64-windows"),
     ("riscv64-unknown-freebsd", "riscv64-unknown-freebsd")],
)  # fmt: skip
def test_platforms(triple, expected):
    assert shipped.platform(Processor(triple, "", "")) == expected


def test_sources_are_those_of_the_stream_and_of_the_kernels_package(tmp_path, monkeypatch):
    (tmp_path / "mypackage").mkdir()
    for name in ("kernels", "layout", "__init__"):
        (tmp_path / "mypackage" / f"{name}.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest.__wrapped__("mypackage.kernels")
    (tmp_path / "mypackage" / "layout.py").write_text("SIZE = 2\n")
    assert source_digest.__wrapped__("mypackage.kernels") != before


def test_kernels_of_one_name_in_two_modules_have_files_of_their_own():
    """Modules of one folder have the same sources."""
    modules = "lottapack.products.kernels", "lottapack.products.dots"
    assert source_digest(modules[0]) == source_digest(modules[1])
    assert object_files._made_from(modules[0]) != object_files._made_from(modules[1])
