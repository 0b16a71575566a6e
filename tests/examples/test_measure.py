"""Test measure.py on its smallest task, with runs of one epoch, and the task of ``lottapack study``."""

import json

import measure
import measure_cartpole
import measure_changes
import measure_data
import measure_karate
import measure_plans
import measure_train
import pytest
import study_digits
import torch
from extent import crossed, extent

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
    measure.measure(ROWS, log)
    lines = path.read_text().splitlines()
    assert len(lines) == 4  # two rates, the second seed of the better one, and rank 2
    path.write_text("\n".join([*lines[:-1], lines[-1][:30]]))  # killed while it wrote
    again = measure.Log(path)
    assert measure.table(ROWS[1:], again) == measure.table(ROWS[1:], log)
    assert "| 1 |" in measure.line(ROWS[0], again)
    measure.measure(ROWS, again)
    assert len(path.read_text().splitlines()) == 5
    assert len(measure.Log(path).found) == 4
    scores = [[one["test"] for one in each.found.values()] for each in (log, measure.Log(path))]
    assert scores[0] == scores[1]
    best = measure.best_rate(ROWS[0], log)
    tried = {rate: log.get(ROWS[0].run(rate, 0))["tune"] for rate in ROWS[0].rates}
    assert tried[best] == max(tried.values())


def test_the_best_try_is_trained_with_more_seeds(tmp_path):
    tries = tuple(
        measure_plans.Row("digits", str(rank), rank=rank, rates=(1e-2,), seeds=2, more={"epochs": 2}) for rank in (1, 8)
    )
    best, log = measure_plans.Best("rank", tries, seeds=3), measure.Log(tmp_path / "runs.jsonl")
    assert measure.line(best, log) is None
    measure.measure([best], log)
    assert len(log.found) == 5
    scores = [sum(log.get(row.run(1e-2, seed))["tune"] for seed in range(2)) for row in tries]
    chosen = measure.decided(best, log)
    assert chosen.rank == (8 if scores[1] > scores[0] else 1)
    assert measure.line(best, log) == measure.line(chosen, log)
    assert f"| rank: {chosen.rank} |" in measure.line(best, log)


PAGES = ("README.md", "docs/ranks.md", "benchmarks/RESULTS.md")


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_of_a_page_are_those_of_the_recorded_runs(name):
    text = (measure.ROOT / name).read_text("utf-8")
    log = measure.Log(measure.MEASURED)
    altered = measure.MARK.sub(lambda mark: mark[0].replace("±", "about"), text)
    assert altered != text
    assert measure.filled(altered, log) == text


@pytest.mark.parametrize("number", range(3))
def test_the_readme_has_the_recipes_that_were_chosen(number):
    chosen = measure.decided(measure_plans.TUNED[number], measure.Log(measure.MEASURED))
    quick = measure_plans.QUICK[number]
    assert [quick.run(rate, 0) for rate in quick.rates] == [chosen.run(rate, 0) for rate in chosen.rates]
    assert (quick.seeds, chosen.seeds) == (5, 5)


ABLATIONS = measure_plans.SECTIONS["digits-ablations"]
CONTROLS = measure_plans.SECTIONS["digits-controls"][:4]
GATING = measure_plans.SECTIONS["digits-gating"][1:3]


@pytest.mark.parametrize("row", [*ABLATIONS, *CONTROLS, *GATING][:: extent(3, 1)], ids=lambda row: row.label)
def test_every_ablation_and_control_trains(row):
    run = {**row.run(row.rates[0], 0)}
    found = measure_train.perform({**run, "epochs": 1})
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
    assert not torch.equal(plain, last_layer(moved=True))
    orders = measure_train.orders({**run, "epochs": 2}, torch.Generator())
    assert len(orders) == 2 * len(measure_train.orders(run, torch.Generator()))


def test_images_move_a_little_and_each_by_itself():
    images = torch.zeros(200, 28, 28)
    images[:, 10:18, 10:18] = 1
    moved = measure_data.moved(images.flatten(1), torch.Generator().manual_seed(0)).view(-1, 28, 28)
    assert 0 <= moved.min() <= moved.max() < 1.001
    assert not torch.equal(moved[0], moved[1])
    assert moved[:, 13, 13].min() > 0.999  # the middle stays inside
    assert moved[:, :7].max() == moved[:, :, 22:].max() == 0
    areas = moved.sum((1, 2)) / 64
    assert 0.8 < areas.min() < 0.92 < 1.08 < areas.max() < 1.2
    rows = (moved.sum(2) * (torch.arange(28) - 13.5)).sum(1) / moved.sum((1, 2))
    assert 0.8 < rows.abs().max() < 1.2


def slants(images):
    """Mean place of the mass, across and down, and how much farther right it is with each row."""
    mass, along = images.sum((1, 2)), torch.arange(28.0)
    right, down = (images.sum(1) * along).sum(1) / mass, (images.sum(2) * along).sum(1) / mass
    across, below = along - right[:, None, None], along[:, None] - down[:, None, None]
    return right, down, (images * across * below).sum((1, 2)) / (images * below**2).sum((1, 2))


def test_upright_images_stand_in_the_middle_and_do_not_slant():
    images = torch.zeros(5, 28, 28)
    for number, slant in enumerate((-0.5, 0.0, 0.5)):
        for row in range(4, 20):
            column = round(11 + slant * (row - 12))
            images[number, row, column : column + 4] = 1
    images[3, 7, 5:15] = 1  # one row cannot slant; the last image is empty
    upright = measure_data.upright(images.flatten(1)).view(-1, 28, 28)
    before, after = slants(images[:4]), slants(upright[:4])
    assert before[2][0] < -0.3 < 0.3 < before[2][2]
    assert after[2][:3].abs().max() < 0.05
    for middle in after[:2]:
        assert (middle - 13.5).abs().max() < 0.1
    assert (upright[:3, 14, 12:16] > 0.6).all()
    assert torch.equal(upright[4], images[4])


def test_a_run_trains_tunes_and_tests_on_images_that_are_prepared_alike():
    run = {"task": "digits", "side": "full", "rank": 0, "lr": 1e-2, "seed": 0, "upright": True}
    plain = measure_data.digits()
    for name in ("train", "tune", "test"):
        images, labels = getattr(measure_train.images_of(run), name)
        assert torch.equal(images, measure_data.upright(getattr(plain, name)[0]))
        assert torch.equal(labels, getattr(plain, name)[1])
        assert measure_train.images_of({**run, "upright": False}) is plain
    batch, _ = measure_train.batch(run, torch.arange(9), torch.Generator())
    assert torch.equal(batch, measure_train.images_of(run).train[0][:9])
    right = measure_train.image_scores(lambda x: torch.eye(10)[plain.test[1][: len(x)]], plain)
    assert right["test"] == 100


def test_the_text_model_trains_a_step():
    run = {"task": "text", "side": "lotta", "rank": 2, "lr": 1e-2, "seed": 0, "steps": 1}
    model, _ = measure_train.prepared(run)
    loss = measure_train.loss_of(model, "text", (torch.randint(256, (2, 16)),))
    assert 4 < loss.item() < 8  # ln 256 is 5.5
    assert sum(p.numel() for p in measure_train.build("text", 0).parameters()) == 1_820_352


def test_full_training_begins_with_the_weights_of_a_scaffold():
    run = {"task": "mnist", "side": "full", "rank": 0, "lr": 1e-2, "seed": 3, "dropout": 0.1}
    model, _ = measure_train.prepared({**run, "scaffold": {"init": "kaiming"}})
    plain, _ = measure_train.prepared(run)
    other = lottapack.scaffold(measure_train.build("mnist", 3, 0.1), seed=3, rank=1, init="kaiming")
    layers = [[m for m in net.modules() if hasattr(m, "in_features")] for net in (model, plain, other)]
    for number, (layer, before, due) in enumerate(zip(*layers, strict=True)):
        assert torch.equal(layer.weight, due.backbone if number < 4 else due.weight)
        assert torch.equal(layer.bias, due.bias)
        assert not torch.equal(layer.weight, before.weight)
    assert all(p.requires_grad for p in model.parameters())


def test_a_begins_with_the_directions_in_which_inputs_differ_most():
    run = {"task": "digits", "side": "lotta", "rank": 4, "lr": 1e-2, "seed": 0}
    images = measure_data.digits().train[0]
    model, plain = (measure_train.prepared({**run, **more})[0] for more in ({"start": "inputs"}, {}))
    inputs = [images, plain[:2](images)]
    for number, given in zip((0, 2), inputs, strict=True):
        a, before = model[number].lora_A.detach(), plain[number].lora_A.detach()
        torch.testing.assert_close(a.norm(), before.norm())
        torch.testing.assert_close(a @ a.t(), torch.eye(4) * a.norm() ** 2 / 4)
        along = (given @ (a / a[0].norm()).t()).var(0)
        assert along.tolist() == sorted(along.tolist(), reverse=True)
        assert along.sum() > 2 * (given @ (before / before.norm(dim=1, keepdim=True)).t()).var(0).sum()
    assert torch.equal(model(images), plain(images))  # B is zero


@pytest.mark.parametrize(("task", "number"), crossed(["karate", "cartpole"], [0, 2]))
def test_other_tasks_learn(task, number, monkeypatch):
    monkeypatch.setattr(measure_cartpole, "ROUNDS", 10)
    row = measure_plans.SECTIONS[task][number]
    found = measure_train.perform(row.run(1e-2, 0))
    assert found["test"] > {"karate": 60, "cartpole": 30}[task]  # chance is 50, and 9
    assert found["trained"] < found["total"] if row.rank else found["trained"] == found["total"]
    assert found["bytes"] > 4 * found["trained"]


def test_the_club_is_zacharys():
    mix, labels = measure_karate.club()
    assert labels.tolist().count(1) == 17
    assert int((mix > 0).sum()) == 34 + 2 * 78
    assert torch.equal(mix, mix.t())


GYMNASIUM = torch.tensor(
    [
        [0.0096000000, -0.2155390171, 0.0308000000, 0.3419952238],
        [0.0096000000, 0.1746791957, 0.0308000000, -0.2430687180],
    ]
)
"""What CartPole-v1 of gymnasium 1.4.0 makes of that state, by its own step()."""


def test_a_pole_falls_as_gymnasium_has_it():
    state = torch.tensor([[0.01, -0.02, 0.03, 0.04]])
    pushed = [measure_cartpole.moved(state, torch.tensor([right])) for right in (False, True)]
    torch.testing.assert_close(torch.cat(pushed), GYMNASIUM)
    assert not measure_cartpole.fallen(torch.cat(pushed)).any()
    assert measure_cartpole.fallen(torch.tensor([[2.5, 0, 0, 0], [0, 0, -0.21, 0]])).all()
    states, _, stood = measure_cartpole.play(
        lambda x: x @ torch.ones(4, 2), torch.Generator().manual_seed(0), 5, best=True
    )
    assert states.shape == (*stood.shape, 4)
    assert 7 < int(stood.sum(0).min()) <= int(stood.sum(0).max()) < 13  # pushed to one side


def test_keys_do_not_depend_on_the_order_of_fields():
    assert json.loads(measure._key({"b": 1, "a": 2})) == {"a": 2, "b": 1}
    assert measure._key({"b": 1, "a": 2}) == measure._key({"a": 2, "b": 1})


def test_the_digits_have_a_rank(monkeypatch):
    monkeypatch.setattr(study_digits, "EPOCHS", 3)
    found = lottapack.study(study_digits.train, study_digits.build, ranks=(1, 4), seeds=1, tolerance=5)
    assert found.rank in (1, 2, 3, 4)
    assert found.full.mean > 60  # chance is 10
