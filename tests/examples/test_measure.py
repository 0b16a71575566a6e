"""Test measure.py on its smallest task, with runs of one epoch, and the task of ``lottapack study``."""

import json

import measure
import measure_changes
import measure_plans
import measure_train
import pytest
import study_digits
import torch

import lottapack


@pytest.fixture(autouse=True)
def short(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setitem(measure_train.EPOCHS, "digits", 1)
    yield
    torch.set_num_threads(before)


ROWS = [
    measure_plans.Row("digits", "full", "full", rates=(1e-3, 3e-2), seeds=2, tuning=1),
    measure_plans.Row("digits", "rank 2", rank=2, rates=(1e-2,), seeds=1),
]


def test_rows_choose_a_rate_and_come_back_from_the_file(tmp_path):
    path = tmp_path / "runs.jsonl"
    log = measure.Log(path)
    for row in ROWS:
        measure.measure(row, log)
    lines = path.read_text().splitlines()
    assert len(lines) == 4  # two rates, the second seed of the better one, and rank 2
    path.write_text("\n".join([*lines[:-1], lines[-1][:30]]))  # killed while it wrote
    again = measure.Log(path)
    assert measure.table(ROWS[:1], again) == measure.table(ROWS[:1], log)
    assert measure.line(ROWS[1], again) is None
    best = measure.best_rate(ROWS[0], log)
    tried = {rate: log.get(ROWS[0].run(rate, 0))["tune"] for rate in ROWS[0].rates}
    assert tried[best] == max(tried.values())


ABLATIONS = measure_plans.SECTIONS["digits-ablations"]
CONTROLS = measure_plans.SECTIONS["digits-controls"][:4]


@pytest.mark.parametrize("row", [*ABLATIONS, *CONTROLS], ids=lambda row: row.label)
def test_every_ablation_and_control_trains(row):
    found = measure_train.perform(row.run(row.rates[0], 0))
    assert 0 <= found["test"] <= 100
    assert found["trained"] < found["total"]
    assert (found["bytes"] == 0) == row.more.get("change", "").startswith(("redraw", "zero"))


def test_a_rank_by_gradient_costs_no_more_than_one_rank_for_all():
    by_gradient = next(row for row in ABLATIONS if row.rank == "by gradient")
    found = measure_train.perform(by_gradient.run(1e-2, 0))
    plain = measure_train.perform({"task": "digits", "side": "lotta", "rank": 8, "lr": 1e-2, "seed": 0})
    assert len(set(found["ranks"].values())) > 1
    assert found["trained"] <= plain["trained"]


@pytest.mark.parametrize("side", ["full", "lotta"])
def test_a_recipe_changes_what_it_names(side):
    run = {"task": "digits", "side": side, "rank": 4, "lr": 1e-2, "seed": 0}

    def last_layer(**change):
        model, _ = measure_train.prepared({**run, **change})
        measure_train.train(model, {**run, **change}, measure_changes.Change(model))
        return torch.cat([p.detach().flatten() for p in model[-1].parameters() if p.requires_grad])

    plain = last_layer()
    assert torch.equal(plain, last_layer(smoothing=0.0, decay=measure_train.DECAY))
    assert not torch.equal(plain, last_layer(smoothing=0.1))
    assert last_layer(decay=10.0).norm() < plain.norm()
    batches = measure_train.batches({**run, "epochs": 2}, torch.Generator())
    assert len(batches) == 2 * len(measure_train.batches(run, torch.Generator()))


def test_the_text_model_trains_a_step():
    run = {"task": "text", "side": "lotta", "rank": 2, "lr": 1e-2, "seed": 0, "steps": 1}
    model, _ = measure_train.prepared(run)
    loss = measure_train.loss_of(model, "text", (torch.randint(256, (2, 16)),))
    assert 4 < loss.item() < 8  # ln 256 is 5.5
    assert sum(p.numel() for p in measure_train.build("text", 0).parameters()) == 1_820_352


def test_keys_do_not_depend_on_the_order_of_fields():
    assert json.loads(measure._key({"b": 1, "a": 2})) == {"a": 2, "b": 1}
    assert measure._key({"b": 1, "a": 2}) == measure._key({"a": 2, "b": 1})


def test_the_digits_have_a_rank(monkeypatch):
    monkeypatch.setattr(study_digits, "EPOCHS", 3)
    found = lottapack.study(study_digits.train, study_digits.build, ranks=(1, 4), seeds=1, tolerance=5)
    assert found.rank in (1, 2, 3, 4)
    assert found.full.mean > 60  # chance is 10
