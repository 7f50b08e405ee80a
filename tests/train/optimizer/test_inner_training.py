"""Inner trainings: batches of networks, each with an optimizer of its own weights."""

import numpy as np
import pytest
import torch
from torch import nn

from metahpo.optim import LearnedOptimizer, initial_weights
from metahpo.optim.weights import shipped_weights
from metahpo.train.optimizer.inner import InnerTraining, batched
from metahpo.train.optimizer.inner_networks import WindowModel
from metahpo.train.optimizer.inner_problems import validation_problems
from metahpo.train.optimizer.problem_families import training_problems


def test_networks_of_a_batch_train_independently() -> None:
    """Alone, or beside one whose steps are three times as long, a network trains alike."""
    for problem in validation_problems():
        losses = []
        for batch in (1, 2):
            generator = torch.Generator().manual_seed(0)
            training = InnerTraining.start(problem, 10, batch, generator, use_losses=True)
            weights = {n: t.repeat(batch, *[1] * t.ndim) for n, t in initial_weights().items()}
            weights["step.log_size"][1:] += 1.0
            losses.append(training.advance(weights, 4, generator)[:, 0])
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("use_losses", [False, True])
@pytest.mark.parametrize("place", [0, 2, 5], ids=["mlp", "recurrent", "transformer"])
def test_an_inner_training_equals_the_learned_optimizer(place: int, use_losses: bool) -> None:
    """What is meta-trained is what users run."""
    problem = validation_problems()[place]
    start, data = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    training = InnerTraining.start(problem, 20, 1, start, use_losses=use_losses)
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
        optimizer.step((lambda value=loss: value.item()) if use_losses else None)


def test_the_initial_weights_reduce_the_loss_of_every_family() -> None:
    random = np.random.default_rng(0)
    for family in training_problems():
        problem = family(random)
        generator = torch.Generator().manual_seed(0)
        training = InnerTraining.start(problem, 40, 1, generator, use_losses=False)
        losses = training.advance(batched(initial_weights()), 100, generator)
        assert len(losses) == 40
        assert training.finished
        assert losses[-5:].mean() < 0.97 * losses[:2].mean(), problem.name


@pytest.mark.slow
@pytest.mark.timeout(1200)
# PyTorch's own compiler triggers it.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_inner_steps_equal_eager_ones() -> None:
    for make in (validation_problems()[0], validation_problems()[-1]):
        losses = []
        for compiled in (False, True):
            generator = torch.Generator().manual_seed(0)
            training = InnerTraining.start(make, 20, 2, generator, use_losses=True)
            training.compiled = compiled
            weights = {n: t.expand(2, *t.shape).clone() for n, t in initial_weights().items()}
            losses.append(training.advance(weights, 6, generator))
        torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


def test_a_window_model_depends_only_on_its_window() -> None:
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
