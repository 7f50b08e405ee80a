"""Meta-training of the neural surrogate: it learns, resumes exactly, and says what is wrong."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from safetensors import safe_open
from support.recorded_tasks import BRIEF, SMALL, archive, bowl
from support.trainings import assert_same_tensors, interrupt

from metahpo import Archive, cli
from metahpo.archive import ArchiveError
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.neural.neural_process import Architecture
from metahpo.surrogate.neural.pretrained import default_weights, load_weights
from metahpo.tasks.space import Space
from metahpo.train import TrainingError, surrogate
from metahpo.train.draw import Draw
from metahpo.train.files import CheckpointError, read_checkpoint, write_checkpoint
from metahpo.train.loop import CHECKPOINT, WEIGHTS
from metahpo.train.reptile import Reptile
from metahpo.train.surrogate.calibration import fitted_power, sharpened
from metahpo.train.surrogate.episodes import (
    Episodes,
    Shape,
    biased_choice,
    draw_shape,
    standardised,
    without_past,
)
from metahpo.train.surrogate.measure import (
    TRIALS,
    answers,
    coverage,
    held_out,
    log_densities,
    quality,
    rank_correlation,
    with_trials,
)
from metahpo.train.surrogate.prior import synthetic_episodes
from metahpo.train.surrogate.prior_spaces import draw_spaces
from metahpo.train.surrogate.recorded import RecordError, read_families, recorded_episodes
from metahpo.train.surrogate.surrogate_training import Settings, SurrogateTraining, train_surrogate

# ---- the prior -----------------------------------------------------------------------------


def episodes(shape: Shape, seed: int = 0) -> Episodes:
    return synthetic_episodes(shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "shape",
    [Shape(3, 4, 9, 5, 8, 6), Shape(2, 0, 5, 0, 8, 1), Shape(2, 1, 5, 1, 8, 26)],
    ids=["usual", "nothing", "wide"],
)
def test_synthetic_episodes_are_whole_and_follow_their_generator(shape: Shape) -> None:
    one, two, other = episodes(shape), episodes(shape), episodes(shape, seed=1)
    assert torch.equal(one.values, two.values)
    assert not torch.equal(one.values, other.values)
    assert one.points.shape == (shape.episodes, shape.trials + shape.queries, one.points.shape[2])
    assert one.past_points.shape[:3] == (shape.episodes, shape.past_tasks, shape.past_trials)
    assert bool(one.values.isfinite().all())
    assert bool(one.past_values.isfinite().all())
    active = one.points[~one.points.isnan()]
    assert bool(((active >= 0) & (active <= 1)).all())
    batch = standardised(one)
    assert bool(batch.targets.isfinite().all())
    assert (batch.past is None) == (shape.past_tasks == 0)


def test_conditional_hyperparameters_are_active_exactly_where_their_parent_admits() -> None:
    shape = Shape(64, 0, 1, 0, 1, 8)
    draw = Draw(torch.Generator().manual_seed(0))
    spaces = draw_spaces(shape, draw)
    points = spaces.configurations(50, 1, draw)[:, 0]
    conditional = 0
    for row in range(shape.episodes):
        parent = int(spaces.parent[row])
        choices = int(spaces.levels[row, parent])
        for column in range(shape.hyperparameters):
            admitted = spaces.admitted[row, column]
            if bool(admitted.all()):
                assert not bool(points[row, :, column].isnan().any())
                continue
            conditional += 1
            assert column != parent
            assert spaces.description.facts[row, column, -1] == 1.0
            choice = (points[row, :, parent] * choices).long()
            assert torch.equal(points[row, :, column].isnan(), ~admitted[choice])
    assert conditional > 20


def test_past_tasks_of_the_prior_tell_about_the_present_one() -> None:
    """Nearest past configurations rank the present ones better than chance, on average.

    200 episodes; the mean correlation's standard error is about 0.03, so that a prior without
    transfer would pass once in some hundred thousand runs.
    """
    made = episodes(Shape(200, 6, 60, 0, 40, 3))
    points, past = made.points.nan_to_num(0.5), made.past_points.nan_to_num(0.5).flatten(1, 2)
    values = made.past_values - made.past_values.mean(-1, keepdim=True)
    values = (values / values.std(-1, keepdim=True).clamp_min(1e-9)).flatten(1)
    near = torch.cdist(points, past).topk(5, largest=False).indices
    predicted = values.gather(1, near.flatten(1)).view(near.shape).mean(-1)
    found = [
        rank_correlation(p, v) for p, v in zip(predicted.numpy(), made.values.numpy(), strict=True)
    ]
    assert np.mean(found) > 0.13


def test_greed_prefers_good_rows_and_its_absence_does_not() -> None:
    """Means over 2,000 draws of 10; four standard errors on either side (1 in 10,000)."""
    values = torch.linspace(-1.7, 1.7, 100).expand(2000, 100)
    generator = torch.Generator().manual_seed(0)
    even, greedy = (
        values.gather(1, biased_choice(values, 10, torch.tensor(greed), generator)).mean()
        for greed in (0.0, 3.0)
    )
    assert abs(float(even)) < 4 * 1.0 / (2000 * 10) ** 0.5
    assert float(greedy) > 0.8


def test_shapes_cost_alike() -> None:
    rng = np.random.default_rng(0)
    shapes = [draw_shape(rng, 4000) for _ in range(500)]
    assert {shape.trials == 0 for shape in shapes} == {True, False}
    assert {shape.past_tasks == 0 for shape in shapes} == {True, False}
    rows = [s.episodes * (s.trials + s.queries + s.past_tasks * s.past_trials) for s in shapes]
    assert max(rows) < 12_000


# ---- recorded tasks ------------------------------------------------------------------------


def test_recorded_episodes_are_whole_and_follow_their_generator(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    # More past tasks than there are.
    for shape in (Shape(40, 5, 9, 6, 10, 0), Shape(5, 0, 9, 0, 10, 0)):
        one, two = (recorded_episodes(families, shape, np.random.default_rng(3)) for _ in range(2))
        assert torch.equal(one.values, two.values)
        assert one.values.shape == (shape.episodes, shape.trials + shape.queries)
        assert one.past_values.shape[:2] == (shape.episodes, shape.past_tasks)
        batch = standardised(one)
        assert bool(batch.targets.isfinite().all())
        # No trial is among its own queries.
        trials, queries = one.values[:, : shape.trials], one.values[:, shape.trials :]
        same = (trials[:, :, None] == queries[:, None]).any(-1).float().mean()
        assert shape.trials == 0 or float(same) < 0.01


def test_short_tasks_give_small_episodes(tmp_path: Path) -> None:
    Archive(tmp_path).extend([bowl("a", 0.2, count=21), bowl("b", 0.4, count=30)])
    families = read_families(tmp_path)
    made = recorded_episodes(families, Shape(20, 3, 40, 50, 64, 0), np.random.default_rng(0))
    assert made.trials == 10
    assert made.values.shape == (20, 21)
    assert made.past_values.shape == (20, 3, 40)


def test_small_and_unwanted_tasks_are_left_out(tmp_path: Path) -> None:
    folder = archive(tmp_path, "tasks", [0.2, 0.4])
    Archive(folder).add(bowl("other/0", 0.5))
    Archive(folder).add(bowl("tasks/short", 0.5, count=5))
    (family,) = read_families(folder, ["other/"])
    assert [task.name for task in family.tasks] == ["tasks/0", "tasks/1"]
    with pytest.raises(RecordError, match="20 trials"):
        read_families(folder, ["tasks/", "other/"])


def test_held_out_studies_never_have_themselves_for_a_past(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    (studies,) = held_out(families, families)
    assert studies.past_values.shape[:2] == (3, 2)
    few = with_trials(studies, 3)
    assert few.values.shape[1] == studies.values.shape[1] - max(TRIALS) + 3
    assert torch.equal(few.values[:, 3:], studies.values[:, max(TRIALS) :])


def test_coverage_counts_central_intervals() -> None:
    places = torch.tensor([0.5, 0.3, 0.8, 0.05, 0.99])
    assert coverage(places) == pytest.approx((0.4, 0.6, 0.8))


# ---- calibration ---------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.85, 1.0, 1.15])
def test_calibration_finds_the_power_that_values_were_drawn_with(power: float) -> None:
    """Right to 0.06, two steps of its grid; by chance wrong in less than one of a million."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 30, generator=generator)
    borders, tails = torch.linspace(-3, 3, 29), torch.tensor([0.5, 0.5])
    drawn = torch.rand(len(logits), generator=generator).clamp(1e-6, 1 - 1e-6)
    values = BarDistribution(power * logits, borders, tails).quantile(drawn)
    found = fitted_power([[(BarDistribution(logits, borders, tails), values)]])
    assert found == pytest.approx(power, abs=0.06)


def test_a_sharpened_network_has_the_masses_to_that_power(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    network = SurrogateTraining(BRIEF, families, architecture=SMALL).averaged_network()
    studies = list(held_out(families, families))
    ((before, _),) = answers(network, studies, 3)
    ((after, _),) = answers(sharpened(network, 1.3), studies, 3)
    wanted = before.masses**1.3
    torch.testing.assert_close(after.masses, wanted / wanted.sum(-1, keepdim=True))


# ---- training ------------------------------------------------------------------------------


@pytest.mark.parametrize("inner_steps", [0, 3])
def test_a_resumed_meta_training_equals_an_uninterrupted_one(
    tmp_path: Path, inner_steps: int
) -> None:
    # With Reptile, both the interruption and the end are within an inner training.
    brief = replace(BRIEF, inner_steps=inner_steps)
    tasks = archive(tmp_path, "tasks", [0.2, 0.4, 0.6])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_surrogate(whole, brief, archive=tasks, architecture=SMALL)
    interrupt(SurrogateTraining(brief, read_families(tasks), architecture=SMALL), parts, 2)
    train_surrogate(parts, brief, archive=tasks, architecture=SMALL)
    assert_same_tensors(whole, parts, CHECKPOINT, WEIGHTS)


def test_a_training_can_be_prolonged_but_not_changed(tmp_path: Path) -> None:
    train_surrogate(tmp_path, replace(BRIEF, synthetic=1.0), architecture=SMALL)
    longer = replace(BRIEF, synthetic=1.0, steps=6)
    train_surrogate(tmp_path, longer, architecture=SMALL)
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6"]
    with pytest.raises(CheckpointError, match=r"rate 0\.001"):
        train_surrogate(tmp_path, replace(longer, rate=0.5), architecture=SMALL)


def test_a_checkpoint_from_before_a_setting_was_there_is_gone_on_from(tmp_path: Path) -> None:
    run = SurrogateTraining(replace(BRIEF, synthetic=1.0), architecture=SMALL)
    run.advance()
    run.save(tmp_path / "checkpoint.safetensors")
    tensors, told = read_checkpoint(tmp_path / "checkpoint.safetensors", torch.device("cpu"))
    del told["pretrained"], told["settings"]["inner_steps"], told["architecture"]["past"]
    write_checkpoint(tmp_path / "checkpoint.safetensors", tensors, told)
    run = SurrogateTraining(replace(BRIEF, synthetic=1.0), architecture=SMALL)
    run.restore(tmp_path / "checkpoint.safetensors")
    assert run.step == 1


def test_it_learns_tasks_it_has_not_seen(tmp_path: Path) -> None:
    """Bowls with their optimum somewhere in the lower half, predicted by a past of such bowls."""
    tasks = archive(tmp_path, "tasks", [0.1, 0.2, 0.3, 0.4, 0.5])
    others = archive(tmp_path, "others", [0.15, 0.35])
    families = read_families(tasks)
    studies = list(held_out(families, read_families(others)))
    training = Settings(steps=150, budget=400, rate=3e-3, warmup=20, synthetic=0.0)
    sizes = replace(SMALL, width=32, layers=2)
    run = SurrogateTraining(training, families, architecture=sizes)
    before = quality(run.averaged_network(), studies)
    for _ in range(training.steps):
        run.advance()
    after = quality(run.averaged_network(), studies)
    assert after[0].rank_correlation > 0.5 > before[0].rank_correlation
    gained = [after[n].log_density - before[n].log_density for n in TRIALS]
    assert np.mean(gained) > 0.2


# ---- Reptile -------------------------------------------------------------------------------


def test_reptile_moves_a_share_of_the_way_and_begins_anew_there() -> None:
    parameter = torch.tensor([1.0, -1.0])
    reptile = Reptile([("p", parameter)], 2)
    parameter += 1.0
    reptile.after(1, [("p", parameter)], 0.25)
    assert torch.equal(parameter, torch.tensor([2.0, 0.0]))
    assert torch.equal(reptile.weights[0][1], torch.tensor([1.0, -1.0]))
    parameter += 3.0
    reptile.after(2, [("p", parameter)], 0.25)
    assert torch.equal(parameter, torch.tensor([2.0, 0.0]))
    assert torch.equal(reptile.weights[0][1], parameter)


def test_an_inner_training_is_of_one_family_and_its_weights_do_not_count(tmp_path: Path) -> None:
    tasks = archive(tmp_path, "tasks", [0.2, 0.4, 0.6])
    for i in range(3):
        task = bowl(f"other/{i}", 0.3)
        space = Space({**task.space.distributions, "more": FloatDistribution(0.0, 1.0)})
        trials = [replace(t, configuration={**t.configuration, "momentum": 0.5, "more": 0.1 * i})
                  for t in task.trials]  # fmt: skip
        Archive(tasks).add(replace(task, space=space, trials=tuple(trials)))
    families = read_families(tasks)
    settings = replace(BRIEF, steps=100, inner_steps=4, synthetic=0.3)
    run = SurrogateTraining(settings, families, architecture=SMALL)
    kinds = []
    for phase in range(12):
        batches = [run.batch(4 * phase + step) for step in range(4)]
        assert len({source for source, _ in batches}) == 1
        if batches[0][0] == "recorded":
            # Hyperparameters left out make spaces smaller, never larger.
            kinds.append(max(batch.queries.shape[-1] for _, batch in batches))
    assert set(kinds) == {4, 5}
    before = dict(run.reptile.weights if run.reptile else ())
    for _ in range(3):
        run.advance()
    for name, tensor in run.averaged.items():
        assert torch.equal(tensor, before[name])
    run.advance()
    assert any(not torch.equal(t, before[n]) for n, t in run.averaged_network().named_parameters())


# ---- ablations -----------------------------------------------------------------------------


def test_a_network_without_past_is_trained_and_measured_without(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    run = SurrogateTraining(BRIEF, families, architecture=replace(SMALL, past=False))
    assert all(run.batch(step)[1].past is None for step in range(20))
    (studies,) = held_out(families, families)
    # What a past task says of units must not reach it either.
    found = log_densities(run.network, [studies])
    assert np.array_equal(found, log_densities(run.network, [without_past(studies)]))


def test_a_network_without_descriptions_sees_no_name_twice(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    blind = replace(SMALL, descriptions=False)
    runs = [SurrogateTraining(replace(BRIEF, synthetic=0.0), families, architecture=a)
            for a in (SMALL, blind)]  # fmt: skip
    seen = []
    for run in runs:
        batches = [run.batch(step)[1] for step in range(10)]
        codes = torch.cat([batch.description.identities.flatten(0, 1) for batch in batches])
        seen.append(len(codes.unique(dim=0)) / len(codes))
    assert seen[0] < 0.7
    assert seen[1] > 0.99


def test_the_command_trains_measures_and_goes_on(tmp_path: Path) -> None:
    tasks = archive(tmp_path, "tasks", [0.2, 0.4, 0.6])
    others = archive(tmp_path, "others", [0.5])
    command = ["train", "surrogate", "--to", str(tmp_path / "out"), "--archive", str(tasks),
               "--validation", str(others), "--steps", "2", "--budget", "150"]  # fmt: skip
    assert cli.main(command) == 0
    assert cli.main(command) == 0
    with (tmp_path / "out" / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["density_0"]) < 0
    assert 0 <= float(row["covered_0.8"]) <= 1
    network = load_weights(tmp_path / "out" / "weights.safetensors")
    assert network.architecture == Architecture()


def test_the_command_begins_with_given_weights_and_calibrates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, others = archive(tmp_path, "tasks", [0.2, 0.4]), archive(tmp_path, "others", [0.5])
    command = ["train", "surrogate", "--archive", str(tasks), "--steps", "1", "--budget", "150"]
    first, second = (tmp_path / name / WEIGHTS for name in ("first", "second"))
    assert cli.main([*command, "--to", str(first.parent)]) == 0
    again = [*command, "--to", str(second.parent), "--start", str(first), "--calibrate"]
    assert cli.main(again) == 1
    assert "--validation" in capsys.readouterr().err
    for _ in range(2):
        assert cli.main([*again, "--validation", str(others)]) == 0
    with safe_open(second, "pt") as file:
        power = float(file.metadata()["power"])
    checkpoint, _ = read_checkpoint(second.parent / CHECKPOINT, torch.device("cpu"))
    begun, ended = load_weights(first), load_weights(second)
    assert torch.equal(begun.borders, ended.borders)
    expected = power * checkpoint["average.head.weight"]
    torch.testing.assert_close(ended.head.weight, expected, rtol=1e-3, atol=0)
    # Other weights are another training.
    other = [*command, "--to", str(second.parent), "--start", str(second)]
    assert cli.main(other) == 1
    assert cli.main([*command, "--to", str(tmp_path / "x"), "--start", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_weights_are_calibrated_without_a_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, others = archive(tmp_path, "tasks", [0.2, 0.4]), archive(tmp_path, "others", [0.5])
    command = ["train", "surrogate", "--archive", str(tasks), "--to"]
    first, second = (tmp_path / name / WEIGHTS for name in ("first", "second"))
    assert cli.main([*command, str(first.parent), "--steps", "0"]) == 1
    assert "step" in capsys.readouterr().err
    assert cli.main([*command, str(first.parent), "--from-pretrained", "--steps", "0"]) == 1
    assert "--steps" in capsys.readouterr().err
    command += [str(second.parent), "--start", "--steps", "0", "--calibrate"]
    assert cli.main([*command, "--validation", str(others)]) == 0
    with safe_open(second, "pt") as file:
        power = float(file.metadata()["power"])
    assert load_weights(second).learners == load_weights(default_weights()).learners
    before = load_weights(default_weights()).state_dict()
    after = load_weights(second).state_dict()
    for name in before:
        expected = power * before[name] if name.startswith("head.") else before[name]
        torch.testing.assert_close(after[name], expected, rtol=1e-3, atol=0)


def test_what_a_training_left_out_does_not_calibrate_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, others = archive(tmp_path, "tasks", [0.2, 0.4]), archive(tmp_path, "others", [0.5, 0.6])
    seen = []

    def counted(network, studies):
        seen.append(sum(len(study.values) for study in studies))
        return network, 1.0

    monkeypatch.setattr(surrogate, "calibrated", counted)
    command = ["train", "surrogate", "--archive", str(tasks), "--validation", str(others)]
    for name, without in (("all", ""), ("one", "others/1")):
        command += ["--start", "--steps", "0", "--calibrate", "--without", without]
        assert cli.main([*command, "--to", str(tmp_path / name)]) == 0
    assert seen == [2, 1]
    command += ["--without", "others/", "--to", str(tmp_path / "none")]
    assert cli.main(command) == 1
    assert "left out" in capsys.readouterr().err


def test_the_commands_ablations_are_kept_with_the_weights(tmp_path: Path) -> None:
    command = ["train", "surrogate", "--synthetic", "1", "--steps", "1", "--budget", "150"]
    flags = ["--without-past", "--without-descriptions", "--inner-steps", "2"]
    assert cli.main([*command, *flags, "--to", str(tmp_path)]) == 0
    network = load_weights(tmp_path / "weights.safetensors")
    assert network.architecture == Architecture(past=False, descriptions=False)
    assert cli.main([*command, "--to", str(tmp_path)]) == 1


def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = archive(tmp_path, "tasks", [0.2, 0.4])
    with pytest.raises(TrainingError, match="--archive"):
        train_surrogate(tmp_path / "out", BRIEF)
    with pytest.raises(TrainingError, match="from 0 to 1"):
        train_surrogate(tmp_path / "out", replace(BRIEF, synthetic=1.5))
    with pytest.raises(TrainingError, match="tasks/0 is both"):
        train_surrogate(tmp_path / "out", BRIEF, archive=tasks, validation=tasks)
    with pytest.raises(ArchiveError):
        train_surrogate(tmp_path / "out", BRIEF, archive=tmp_path / "nothing")
    command = ["train", "surrogate", "--to", str(tmp_path / "out"), "--synthetic", "1"]
    assert cli.main([*command, "--device", "toaster"]) != 0
    assert "toaster" in capsys.readouterr().err
