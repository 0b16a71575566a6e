"""Results in a console and a notebook: short, readable, with foreign text escaped."""

import io
import sys

import numpy as np
import pytest
import torch
from models import mlp
from torch import nn

import lottapack
from lottapack.display import ROWS, Displayed, Facts
from lottapack.registry import PullResult, PushResult
from lottapack.reports.verification import Check, Verification

EVIL = "<script>alert('x')</script>\x1b[31m"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One of each kind."""
    folder = tmp_path_factory.mktemp("results")
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 200))
    model, path = lottapack.scaffold(net, seed=1, rank=2), folder / "m.lotta.safetensors"
    inputs = torch.ones(2, 64)
    found = {
        "pack": lottapack.pack(model, path, compression=lottapack.Compression(max_error=0.05)),
        "inspect": lottapack.inspect(path),
        "verify": lottapack.verify(path),
        "report": lottapack.report(path),
        "compare": lottapack.compare(lottapack.load(path), path, inputs),
        "bench": lottapack.speed.bench(elements=64, rounds=1),
        "pull": PullResult(path, "my-org/digits", "a" * 40, "b" * 64, 10, 10),
        "push": PushResult("my-org/digits", None, "b" * 64, 10, (), (), True, False, "http://localhost"),
    }
    np.save(folder / "x.npy", inputs.numpy())
    found["run"] = lottapack.run(path, inputs=folder / "x.npy")
    torch.manual_seed(3)
    found["recovered"] = lottapack.recover.torch_cpu(mlp(), seed=3)
    return found


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("pack", "m.lotta.safetensors: "),
        ("inspect", "Sequential, "),
        ("verify", "ok, "),
        ("report", "bits per weight"),
        ("compare", "unmerged 0 apart"),
        ("bench", "<SpeedReport cpu: "),
        ("pull", "<PullResult my-org/digits: 10 bytes"),
        ("push", "sent 0 files"),
        ("run", "output (2, "),
        ("recovered", "<Recovered Sequential: "),
    ],
)
def test_results_are_readable(name, begins, results):
    shown, page = repr(results[name]), results[name]._repr_html_()
    assert begins in shown and len(shown) < 400 and "\n" not in shown
    assert page.startswith("<div><p><b>") and page.count("<table>") == page.count("</table>")


def test_a_failed_verification_names_what_failed():
    checks = (Check("format", "x", "ok"), Check("sha256", "0.weight", "failed", EVIL), Check("coding", "y", "skipped"))
    outcome = Verification("m", "0" * 64, checks)
    assert repr(outcome) == "<Verification m: FAILED, 3 checks, 1 failed, 1 skipped: sha256 0.weight>"
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in outcome._repr_html_()


class Hostile(Displayed):
    def _facts(self):
        return Facts(EVIL, EVIL, {EVIL: EVIL}, [EVIL], [[EVIL]] * (ROWS + 1000))


def test_what_a_stranger_wrote_stays_text():
    page = Hostile()._repr_html_()
    assert "<script" not in page and "\x1b" not in page
    assert page.count("&lt;script") == 4 + 1 + ROWS
    assert "and 1,000 more" in page
    assert "\x1b" not in repr(Hostile())


def test_a_pack_with_hostile_words_is_shown_as_text(results):
    from dataclasses import replace

    summary = replace(results["inspect"], provenance={EVIL: EVIL}, files={EVIL: 1}, architecture=EVIL)
    assert "<script" not in summary._repr_html_()
    assert "\x1b" not in repr(summary)


def test_the_progress_bar_of_a_console(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = lottapack.ProgressBar("verify", unit="B")
    for done in (0, 500_000, 2_000_000):
        bar(done, 2_000_000)
    assert "verify: 100%" in sys.stderr.getvalue() and "2.00M/2.00M" in sys.stderr.getvalue()
