"""Output at 80, 60 and 30 columns: words stay whole, and lines fit."""

import io
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest
import torch
from cli_runs import Files, Run
from effort import at_most
from rich.cells import cell_len
from torch import nn

import lottapack
from lottapack.packing.pack_result import PackResult
from lottapack.packing.recovered import Layer
from lottapack.registry import FileSize, Listed, LogEntry, PullResult, PushResult
from lottapack.reports.size_table import SizeRow
from lottapack.reports.speed import Speed, SpeedReport
from lottapack.reports.speed_virtual import ProductSpeed, VirtualReport
from lottapack.running import RunResult
from lottapack_cli.render import Output, Part, heading, table
from lottapack_cli.tables import wrapped
from lottapack_cli.views import bench, pack, registry, run, size_table

LONG = "model.decoder.transformer.layers.0-31.self_attention.query_key_value_projection.weight"
WIDE = "日本語の層の名前がとても長い注意機構の射影行列.weight"
FIRST = {"name", "revision", "reference", "file", "what", "case", "weights", "Llama"}
"""Titles of first columns, which need none where their cells stand on lines of their own."""
WIDTHS = [80, 60, 30]
TITLE = 16
"""Columns that a title may take before a word that stands behind it whatever its width."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def words(text: str) -> set[str]:
    return set(text.split())


def check(narrow: str, whole: str, width: int, spare: Set[str] = frozenset()) -> None:
    """``spare``: words of optional columns. Titles repeat where rows become lines."""
    assert words(narrow) <= words(whole), "a word was broken"
    assert words(whole) - words(narrow) <= {*spare, *FIRST}, "a word was lost"
    for line in narrow.splitlines():
        word = max(line.split(), key=cell_len, default="")
        before = cell_len(line[: line.index(word)])
        assert cell_len(line) <= width or cell_len(word) > width - min(before, TITLE), line


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("wide")
    layers = nn.Sequential()
    for number in range(2):
        layers.add_module(LONG.replace(".", "_") + str(number), nn.Linear(16, 16))
    layers.add_module(WIDE.replace(".", "_"), nn.Linear(16, 16))
    layers.add_module("head", nn.Linear(16, 4))
    made = lottapack.scaffold(layers, seed=1, rank=2)
    torch.save(made.state_dict(), folder / "model.pt")
    lottapack.pack(made, folder / f"{WIDE}.lotta.safetensors")
    return Files(folder / "model.pt", folder / f"{WIDE}.lotta.safetensors")


SPARE = {"at", "10", "100", "1000", "Mbit/s", "ms", "us", "s", "of", "header", "and", "descriptor", "tensors", "in"}
SPARE |= {"the", "file", "rebuilt", "backbone", "weights", "model", "can", "be", "built"}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "line",
    [["inspect"], ["inspect", "--all"], ["verify"], ["verify", "--all"], ["report"]],
    ids=lambda line: " ".join(line),
)
def test_commands_on_a_pack(
    line: list[str], width: int, model: Files, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = run(line[0], model.pack, *line[1:])
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = run(line[0], model.pack, *line[1:])
    assert (whole.code, narrow.code, narrow.err) == (0, 0, "")
    spare = {word for word in words(whole.out) if word in SPARE or word.replace(".", "").isdigit()}
    check(narrow.out, whole.out, width, spare)


@pytest.mark.parametrize("width", WIDTHS)
def test_packing_at_a_width(
    width: int, model: Files, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("pack", model.checkpoint, "-o", tmp_path / "p.lotta.safetensors", "--coding", "*=int8-block64")
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = run(*line)
    monkeypatch.setenv("COLUMNS", str(width))
    spare = {word for word in words(whole.out) if word in ("tensors", "mean") or word[0].isdigit()}
    check(run(*line).out, whole.out, width, spare)


def views() -> Iterator[tuple[str, list[Part]]]:
    """Return the output of every other command for the widest results."""
    when, digest, path = "2026-11-29T09:30:11", "sha256:" + "0123456789abcdef" * 4, Path(f"/tmp/{LONG}/{WIDE}")
    titles = ("Push a pack with a title that goes on for quite some time", WIDE)
    entries = [LogEntry(digest, ("v1", "main", LONG[:40]), when, title, ("alice", "bob")) for title in titles]
    yield "log", list(registry.logged(entries))
    listed = [Listed(f"my-organisation/{LONG[:60]}", when, True), Listed(f"oci://127.0.0.1:5055/{WIDE}", when)]
    yield "list", list(registry.listed("my-org", listed))
    files = (FileSize(f"{LONG}.lotta.safetensors", 123_456_789), FileSize(WIDE, 12))
    sent = PushResult("my-org/m@v1", digest, digest[7:], 9, files, files[:1], True, True, f"http://h/{LONG}", (WIDE,))
    yield "push", list(registry.pushed(sent))
    yield "pull", list(registry.pulled(PullResult(path, "my-org/m@v1", digest, digest[7:], 9, 9), None))
    layers = tuple(Layer(name, "adapted", 16, 0.123456, 1e-7, 12_345_678) for name in (LONG, WIDE))
    yield "pack --from-merged", list(pack.view(PackResult(path, 9, digest[7:], {}, layers=layers)))
    speeds = (Speed("generate normal16", "bfloat16", 2.345e9, 0.123, 0.234, 0.345, 0.456),)
    yield "bench", list(bench.view(SpeedReport("cpu", "a machine with a long name " * 5, 1 << 25, 5, speeds)))
    products = (ProductSpeed("sign1, in registers", 64, 1.5e9, 0.5, 0.25, 123456),)
    yield "bench --virtual", list(bench.view_products(VirtualReport("cpu", "a machine", (4096, 1024), 5, products)))
    paper, measured = (2312, 650, 109), (0.99, 1.0, Path(f"{WIDE}.lotta.safetensors"))
    size = SizeRow("900M", "pack in fp16", 9, 108.86, 9, 0.75, *paper, *measured)
    yield "report --table", list(size_table.view([size]))
    shapes = {LONG: (1, 2, 3), WIDE: (2,)}
    values = {WIDE: [1.5, -2.25]}
    yield "run", list(run.view(RunResult(path, "virtual", 1.0, 2.0, 9, outputs=shapes, values=values, output=path)))
    text = "Once upon a time there was a model that wrote more than fits on one line. " * 3
    told = RunResult(path, "virtual", 1.0, 2.0, 9, (1, 2), 3.0, text, prompt=text)
    yield "run --prompt", list(run.view(told))
    yield "serve token list", [table(("name", "rights", "created"), [(LONG, "write", when), (WIDE, "read", when)])]
    yield "headings", [heading(LONG, "a note " * 20), heading(WIDE), heading("short", WIDE)]


VIEWS = dict(views())
DROPPED = {"bench", "bench --virtual", "report --table"}


def shown(parts: list[Part], monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    Output().show(*parts)
    return stream.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = shown(VIEWS[name], monkeypatch, io.StringIO())
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = shown(VIEWS[name], monkeypatch, Terminal())
    check(narrow, whole, width, words(whole) if name in DROPPED else frozenset())


def test_a_table_becomes_lines_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Part] = [table(["name", ">size", "?note"], [["abc.defg", "1,234", "x y"], ["a", "5", ""]])]

    def at(width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        return shown(parts, monkeypatch, Terminal()).splitlines()

    assert at(21) == ["name       size  note", "abc.defg  1,234  x y", "a             5"]
    assert at(20) == at(15) == ["name       size", "abc.defg  1,234", "a             5"]
    assert at(14) == ["name", "   size  note", "abc.defg", "  1,234  x y", "a", "      5"]
    assert at(8) == ["name", "   size", "abc.defg", "  1,234", "a", "      5"]
    assert at(6) == ["abc.defg", "  size  1,234", "  note  x y", "a", "  size  5"]


def test_text_is_broken_between_words_only() -> None:
    assert wrapped("one two  three", 7) == ["one two", "three"]
    assert wrapped("  ab cd ef", 7) == ["  ab cd", "  ef"]
    assert wrapped("sha256 0123456789 end", 8) == ["sha256 0123456789", "end"]
    assert wrapped("日本 語", 5) == ["日本", "語"]
    assert wrapped("日本 語", 7) == ["日本 語"]
    assert wrapped("", 5) == [""]
    assert wrapped("a\n\n  b", 5) == ["a", "", "  b"]


def test_errors_are_broken_in_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quoted text, commands and paths stay whole, so that they can be copied."""
    text = (
        "a/long/path/to/one.lotta.safetensors is not a readable pack: it ends too early\n"
        "Its author's tool, 'some tool', wrote \"two words\". Run `pip install it`, then lottapack verify --json a/b.c "
        "DIGITS for all of its checks."
    )
    monkeypatch.setenv("COLUMNS", "30")
    Output().complain(text)
    assert capsys.readouterr().err == f"error: {text}\n"
    monkeypatch.setattr("lottapack_cli.render.is_terminal", lambda stream: True)
    Output().complain(text)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: a/long/path/to/one.lotta.safetensors",
        "is not a readable pack: it",
        "ends too early",
        "Its author's tool,",
        "'some tool', wrote",
        '"two words". Run',
        "`pip install it`, then lottapack verify --json a/b.c DIGITS",
        "for all of its checks.",
    ]
    Output().warn(text)
    assert capsys.readouterr().err.startswith("warning: a/long/path/to/one.lotta.safetensors\nis not")
    Output(json=True).warn(text)
    assert capsys.readouterr().err == ""


def test_a_cell_is_one_line() -> None:
    rows = [["o/m\no/forged", "x"], ["o/n", "y"]]
    lines = [line.plain for line in table(["reference", ""], rows).lines(80)]
    assert lines == ["reference", "o/m\\no/forged  x", "o/n            y"]


def test_long_tables_and_trailing_spaces_cost_little() -> None:
    rows = [[str(number), "x"] for number in range(20_000)]
    with at_most(5_000_000):
        for width in (80, 6):
            assert sum(1 for _ in table(["name", "value"], rows).lines(width)) > 20_000
        assert wrapped("x" + " " * 200_000, 80) == ["x"]
