"""Parts of the output that do not need files."""

import json
import math
from pathlib import Path

import pytest

from lottapack.reports.inspection import ParameterSummary, Summary
from lottapack.reports.reporting import Report, Row
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output, clean, duration, plain
from lottapack_cli.views import inspect, report
from lottapack_cli.views.ranges import collapse


def labels(*names: str) -> list[tuple[str, int]]:
    return [(group.label, len(group.items)) for group in collapse(names, lambda name: name, lambda name: 0)]


def test_names_collapse_into_ranges() -> None:
    assert labels(*(f"h.{i}.w" for i in range(12))) == [("h.0-11.w", 12)]
    assert labels("h.10.w", "h.2.w", "h.3.w") == [("h.2-3,10.w", 3)]
    assert labels(*(f"h.{i}.e.{j}.w" for i in range(3) for j in range(2))) == [("h.0-2.e.0-1.w", 6)]
    assert labels("b", "a.1", "a") == [("a", 1), ("a.1", 1), ("b", 1)]


def test_a_label_stands_for_exactly_its_items() -> None:
    assert labels("h.0.e.0", "h.0.e.1", "h.1.e.0") == [("h.0.e.0-1", 2), ("h.1.e.0", 1)]


def test_names_with_odd_digits_stay_apart() -> None:
    assert labels("h.01.w", "h.1.w", "h.\u0663.w") == [("h.1.w", 1), ("h.01.w", 1), ("h.\u0663.w", 1)]


def test_unlike_items_stay_apart() -> None:
    groups = collapse(["a.0", "a.1", "a.2"], str, lambda name: name == "a.1")
    assert [group.label for group in groups] == ["a.0,2", "a.1"]


def layers(count: int) -> Summary:
    parameters = [
        ParameterSummary(
            f"model.layers.{i}.self_attn.q_proj.weight",
            "adapted",
            (384, 384),
            "float32",
            "normal16",
            0.051,
            8,
            8.0,
            "lora",
            0.9 + i / 1000,
            True,
        )
        for i in range(count)
    ]
    parameters.append(ParameterSummary("lm_head.weight", "tied", to="model.embed_tokens.weight"))
    return Summary(
        Path("p"), 9, "1.0", "transformers", "X", {}, "philox4x32-10", "0" * 16, {}, 1, 1, tuple(parameters), {}
    )


def test_a_hundred_layers_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show(*inspect.view(layers(100), every=False))
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if "q_proj.weight" in line]
    assert line.split() == [
        "model.layers.0-99.self_attn.q_proj.weight",
        "x100",
        "384",
        "x",
        "384",
        "0.051",
        "0.9..0.999",
    ]
    assert any("lm_head.weight" in line and "model.embed_tokens.weight" in line for line in lines)
    Output().show(*inspect.view(layers(100), every=True))
    assert capsys.readouterr().out.count("q_proj.weight") == 100


def test_markdown_escapes_names() -> None:
    forms = (
        Row("this pack", 10, 1.0, {10: 1.0, 100: 0.1, 1000: 0.01}),
        Row("a|b", 20, 2.0, {10: 60.0, 100: 0.1, 1000: 1}),
    )
    text = report.markdown(Report(Path("p_1"), 10, 5, 16.0, forms, {"stored": 10}, {"heads": 10}))
    assert "**p\\_1**" in text
    assert "| a\\|b | 20 bytes | 2 | 1 min 0 s |" in text


def test_duration() -> None:
    times = [0.01234, 0.9994, 3.6, 59.94, 59.96, 125, 3600 * 5 + 59]
    assert [duration(time) for time in times] == [
        "12.3 ms",
        "999 ms",
        "3.6 s",
        "59.9 s",
        "1 min 0 s",
        "2 min 5 s",
        "5 h 0 min",
    ]


def test_plain_is_strict_json() -> None:
    value = plain({"a": (1, math.nan, -math.nan, math.inf, -math.inf), "p": Path("x"), 10: 0.5})
    said = '{"a": [1, "NaN", "NaN", "Infinity", "-Infinity"], "p": "x", "10": 0.5}'
    assert json.dumps(value, allow_nan=False) == said


def test_clean_keeps_words_and_lines() -> None:
    assert clean("größe\n\t\x1b\x00") == "größe\n\\t\\x1b\\x00"


def test_the_bar_is_silent_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with Bar("packing", show=True) as bar:
        bar(1, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("show", [True, False])
def test_the_bar_appears_where_it_may(
    show: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Bar("packing", show=show) as bar:
        bar(1, 2, "half")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("packing" in captured.err and "50%" in captured.err) == show
