"""The neural process: invariances, inputs, weights."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from metahpo.surrogate.networks.space_description import Description, describe
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess, PastTrials, Trials
from metahpo.surrogate.neural.pretrained import WeightsError, load_weights, save_weights
from metahpo.tasks.space import Condition, Space

TINY = Architecture(width=16, heads=2, layers=2, past_layers=1, latents=3, bars=12)


SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
        "optimizer": CategoricalDistribution(("sgd", "adam", "rmsprop")),
        "momentum": FloatDistribution(0.0, 1.0),
        "layers": IntDistribution(1, 5),
        "widget": FloatDistribution(0.0, 1.0),
        "gadget": FloatDistribution(0.0, 1.0),
    },
    {"momentum": Condition("optimizer", choices=("sgd",))},
)


def network(seed: int = 0, architecture: Architecture = TINY) -> NeuralProcess:
    torch.manual_seed(seed)
    model = NeuralProcess(architecture).eval().requires_grad_(False)
    # Parameters that start at zero would hide dependencies.
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return model


def batched(description: Description, count: int) -> Description:
    expanded = {name: t.expand(count, *t.shape) for name, t in vars(description).items()}
    return replace(description, **expanded)


def draw_points(space: Space, *size: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    flat = space.activate(space.snap(rng.random((math.prod(size), len(space)))))
    return torch.from_numpy(flat).float().view(*size, len(space))


class Study:
    """Inputs of the network, two studies with three past tasks."""

    def __init__(self, space: Space = SPACE, trials: int = 5, past: int = 3) -> None:
        generator = torch.Generator().manual_seed(3)
        self.description = batched(describe(space), 2)
        views = torch.randn(2, trials, 2, generator=generator)
        self.trials = Trials(draw_points(space, 2, trials), views)
        self.queries = draw_points(space, 2, 4, seed=1)
        past_views = torch.randn(2, past, 7, 2, generator=generator)
        known = torch.ones(2, past, len(space), dtype=torch.bool)
        points = draw_points(space, 2, past, 7, seed=2)
        if past:
            known[:, 0, -1] = False
            points[:, 0, :, -1] = torch.nan
        relevance = torch.randn(2, past, generator=generator)
        self.past = PastTrials(Trials(points, past_views), known, None, relevance)

    def predict(self, model: NeuralProcess, past: bool = True) -> Tensor:
        past_trials = self.past if past else None
        return model(self.description, self.trials, self.queries, past_trials).log_masses


def close(one: Tensor, two: Tensor) -> bool:
    return torch.allclose(one, two, atol=1e-5)


# ---- invariances ---------------------------------------------------------------------------


def test_the_order_of_hyperparameters_does_not_matter() -> None:
    model, study = network(), Study()
    before = study.predict(model)
    order = torch.randperm(len(SPACE), generator=torch.Generator().manual_seed(1))
    study.description = study.description.permuted(order)
    study.trials = study.trials._replace(points=study.trials.points[..., order])
    study.queries = study.queries[..., order]
    trials = study.past.trials._replace(points=study.past.trials.points[..., order])
    assert study.past.known is not None
    study.past = study.past._replace(trials=trials, known=study.past.known[..., order])
    assert close(before, study.predict(model))


def test_the_order_of_trials_and_past_tasks_does_not_matter() -> None:
    model, study = network(), Study()
    before = study.predict(model)
    backwards = Trials(*(part.flip(1) for part in study.trials))
    past = study.past
    assert past.known is not None
    assert past.relevance is not None
    trials = Trials(*(part.flip(1).flip(2) for part in past.trials))
    study.trials = backwards
    study.past = PastTrials(trials, past.known.flip(1), None, past.relevance.flip(1))
    assert close(before, study.predict(model))


def test_the_order_of_the_space_and_of_choices_does_not_matter() -> None:
    """With the distributions and the choices in another order."""
    model = network()
    shuffled = {name: SPACE.distributions[name] for name in reversed(SPACE.names)}
    shuffled["optimizer"] = CategoricalDistribution(("rmsprop", "sgd", "adam"))
    other = Space(shuffled, SPACE.conditions)
    configurations = SPACE.decode(draw_points(SPACE, 9).numpy())
    views = torch.randn(1, 9, 2, generator=torch.Generator().manual_seed(0))

    def predict(space: Space) -> Tensor:
        points = torch.from_numpy(space.encode(configurations)).float()[None]
        description = batched(describe(space), 1)
        return model(description, Trials(points, views), points).log_masses

    assert close(predict(SPACE), predict(other))


def test_queries_and_studies_of_a_batch_are_independent() -> None:
    model, study = network(), Study()
    together = study.predict(model)
    study.queries = study.queries[:, 1:2]
    assert close(together[:, 1:2], study.predict(model))
    alone = Study()
    for name in ("description", "queries"):
        value = getattr(alone, name)
        first = value[:1] if isinstance(value, Tensor) else batched(describe(SPACE), 1)
        setattr(alone, name, first)
    alone.trials = Trials(*(part[:1] for part in alone.trials))
    assert alone.past.known is not None
    assert alone.past.relevance is not None
    alone.past = PastTrials(
        Trials(*(part[:1] for part in alone.past.trials)),
        alone.past.known[:1],
        None,
        alone.past.relevance[:1],
    )
    assert close(together[:1], alone.predict(model))


def test_padding_does_not_change_predictions() -> None:
    """Spaces with fewer hyperparameters, and past tasks with fewer trials."""
    model, study = network(), Study()
    before = study.predict(model)
    extra = torch.nn.functional.pad
    description = study.description
    study.description = Description(
        facts=extra(description.facts, (0, 0, 0, 2), value=1.0),
        roles=extra(description.roles, (0, 2), value=3),
        identities=extra(description.identities, (0, 0, 0, 2), value=1.0),
        choices=extra(description.choices, (0, 2)),
        choice_codes=extra(description.choice_codes, (0, 0, 0, 1, 0, 2)),
        present=extra(description.present, (0, 2)),
    )
    study.trials = study.trials._replace(points=extra(study.trials.points, (0, 2), value=0.3))
    study.queries = extra(study.queries, (0, 2), value=torch.nan)
    past = study.past
    assert past.known is not None
    points = extra(past.trials.points, (0, 2, 0, 4), value=0.9)
    views = extra(past.trials.views, (0, 0, 0, 4), value=2.0)
    present = extra(torch.ones(2, 3, 7, dtype=torch.bool), (0, 4))
    known = extra(past.known, (0, 2), value=True)
    study.past = PastTrials(Trials(points, views), known, present, past.relevance)
    assert close(before, study.predict(model))


# ---- inputs --------------------------------------------------------------------------------


def test_predictions_depend_on_every_input() -> None:
    model = network()
    before = Study().predict(model)
    changes = []
    study = Study()
    assert not close(before, study.predict(model, past=False))
    assert study.past.relevance is not None
    study.past = study.past._replace(relevance=study.past.relevance + 1.0)
    changes.append(study)
    study = Study()
    study.past = study.past._replace(known=None)
    changes.append(study)
    study = Study()
    study.trials = study.trials._replace(views=study.trials.views + 0.5)
    changes.append(study)
    study = Study()
    study.description = replace(study.description, roles=study.description.roles.flip(-1))
    changes.append(study)
    study = Study()
    study.queries = study.queries.nan_to_num(0.5)
    changes.append(study)
    for changed in changes:
        assert not close(before, changed.predict(model))


def test_an_ablated_network_ignores_exactly_one_input(
    tmp_path: Path,
) -> None:
    study = Study()
    description = study.description
    other = Study()
    other.description = replace(
        description, facts=description.facts.flip(-2), roles=description.roles.flip(-1)
    )
    for without in ("past", "descriptions"):
        ablated = network(architecture=replace(TINY, **{without: False}))
        save_weights(ablated, tmp_path / "weights.safetensors")
        model = load_weights(tmp_path / "weights.safetensors")
        before = study.predict(model)
        assert close(before, study.predict(model, past=False)) == (without == "past")
        assert close(before, other.predict(model)) == (without == "descriptions")


@pytest.mark.parametrize(("count", "trials", "past"), [(1, 0, 0), (24, 3, 2), (40, 500, 200)])
def test_inputs_may_have_any_size(count: int, trials: int, past: int) -> None:
    space = Space({f"x{i}": FloatDistribution(0.0, 1.0) for i in range(count)})
    study = Study(space, trials, past)
    predicted = study.predict(network(), past=past > 0)
    assert predicted.shape == (2, 4, TINY.bars)
    assert bool(predicted.isfinite().all())


def test_gradients_reach_numerical_positions_and_are_zero_for_inactive_ones() -> None:
    model, study = network(), Study()
    queries = study.queries.clone().requires_grad_()
    predicted = model(study.description, study.trials, queries, study.past)
    predicted.mean.sum().backward()
    assert queries.grad is not None
    inactive = study.queries.isnan()
    assert bool(inactive.any())
    assert bool(queries.grad.isfinite().all())
    assert bool((queries.grad[inactive] == 0).all())
    assert bool((queries.grad[..., 0] != 0).all())


# ---- weights -------------------------------------------------------------------------------


def test_the_default_network_is_small(tmp_path: Path) -> None:
    model = NeuralProcess()
    assert sum(parameter.numel() for parameter in model.parameters()) <= 4e6
    save_weights(model, tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_size <= 16e6


def test_saved_weights_give_the_same_predictions(tmp_path: Path) -> None:
    model, study = network(), Study()
    save_weights(model, tmp_path / "weights.safetensors", step="7")
    again = load_weights(tmp_path / "weights.safetensors")
    assert again.architecture == TINY
    assert torch.equal(study.predict(model), study.predict(again))


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="metahpo train surrogate"):
        load_weights(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(WeightsError, match="does not contain weights"):
        load_weights(tmp_path / "text.safetensors")
