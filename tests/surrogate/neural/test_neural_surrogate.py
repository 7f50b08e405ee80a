"""The neural surrogate: its distribution, its inputs, its invariances."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from metahpo.surrogate.networks.attention import PLACE_WIDTH, Block
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.space_description import Description, describe
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess, PastTrials, Trials
from metahpo.surrogate.neural.pretrained import WeightsError, load_weights, save_weights
from metahpo.surrogate.scores import own_warp
from metahpo.surrogate.standardise import own_scale, rank_scores, study_scale, two_views
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


# ---- bars ----------------------------------------------------------------------------------


def bars(seed: int, count: int = 6) -> BarDistribution:
    generator = torch.Generator().manual_seed(seed)
    borders = torch.randn(count - 1, generator=generator, dtype=torch.float64).sort().values
    logits = 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    tails = 0.2 + torch.rand(2, generator=generator, dtype=torch.float64)
    return BarDistribution(logits, borders, tails)


def expectation(answer: BarDistribution, function: Callable[[Tensor], Tensor]) -> float:
    """By the midpoint rule, bar by bar: the plain reference of the closed forms."""
    edges = [answer.borders[0] - 12, *answer.borders, answer.borders[-1] + 12]
    total = 0.0
    for low, high in pairwise(edges):
        step = (high - low) / 20_000
        middles = low + step * (torch.arange(20_000) + 0.5)
        logits, tails = answer.log_masses.expand(20_000, -1), answer.tails
        densities = BarDistribution(logits, answer.borders, tails).log_density(middles).exp()
        total += float((function(middles) * densities).sum() * step)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_moments_and_improvement_equal_quadrature(seed: int) -> None:
    answer = bars(seed)
    mean = expectation(answer, lambda y: y)
    assert expectation(answer, torch.ones_like) == pytest.approx(1.0, abs=1e-7)
    assert float(answer.mean) == pytest.approx(mean, abs=1e-7)
    variance = expectation(answer, lambda y: (y - mean) ** 2)
    assert float(answer.variance) == pytest.approx(variance, abs=1e-7)
    # Below all bars, at a border, within a bar, and above all.
    middle = float(answer.borders[1:3].mean())
    for best in (float(answer.borders[0]) - 0.7, float(answer.borders[1]), middle,
                 float(answer.borders[-1]) + 0.4):  # fmt: skip
        reference = expectation(answer, lambda y, best=best: (y - best).clamp_min(0.0))
        assert float(answer.expected_improvement(best)) == pytest.approx(reference, abs=2e-6)


@given(seed=st.integers(0, 1000), probability=st.floats(0.001, 0.999))
@settings(max_examples=50, deadline=None)
def test_quantiles_invert_the_distribution_function(seed: int, probability: float) -> None:
    answer = bars(seed)
    assert float(answer.cdf(answer.quantile(probability))) == pytest.approx(probability, abs=1e-6)


def test_distributions_come_in_batches() -> None:
    single = [bars(seed) for seed in range(3)]
    borders, tails = single[0].borders, single[0].tails
    batch = BarDistribution(torch.stack([b.log_masses for b in single]), borders, tails)
    points = torch.tensor([-3.0, 0.1, 2.0], dtype=torch.float64)
    for row, alone in enumerate(single):
        alone = BarDistribution(alone.log_masses, borders, tails)
        assert torch.allclose(batch.mean[row], alone.mean)
        assert torch.allclose(batch.log_density(points)[row], alone.log_density(points[row]))
        assert torch.allclose(batch.quantile(0.3)[row], alone.quantile(0.3))
        improvement = batch.expected_improvement(points)[row]
        assert torch.allclose(improvement, alone.expected_improvement(points[row]))


# ---- values --------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_own_scale_is_that_of_scores(values: list[float], padding: int) -> None:
    padded = torch.tensor([*values, *[math.nan] * padding], dtype=torch.float64)
    scale, warp = own_scale(padded), own_warp(np.asarray(values))
    assert float(scale.centre) == pytest.approx(warp.centre, abs=1e-9)
    assert float(scale.unit) == pytest.approx(warp.unit, rel=1e-6)


def test_scores_of_a_scale_are_those_of_its_warp() -> None:
    values = torch.linspace(-9.0, 9.0, 37, dtype=torch.float64)
    scale = own_scale(values[20:])
    expected = scale.warp.scores(values.numpy())
    assert np.allclose(scale.scores(values).numpy(), expected, atol=1e-5)


def test_the_pasts_unit_counts_while_trials_are_few_and_is_not_believed_blindly() -> None:
    past = torch.tensor(4.0)
    assert float(study_scale(torch.tensor([7.0]), past).unit) == 4.0
    assert float(study_scale(torch.tensor([5.0, 5.0]), past).unit) == 4.0
    values = torch.linspace(0.0, 2.0, 50, dtype=torch.float64)
    few, many, alone = (study_scale(values[::k], past).unit for k in (16, 1, 1))
    alone = study_scale(values).unit
    assert float(alone) < float(many) < float(few) < 4.0
    # A past in quite another unit moves the present one by a bounded factor.
    foreign = study_scale(values, torch.tensor(1e30)).unit
    assert float(foreign) < 1.2 * float(alone)


def test_ranks_do_not_care_about_monotone_maps_and_share_ties() -> None:
    values = torch.tensor([3.0, 1.0, 1.0, 8.0, math.nan], dtype=torch.float64)
    ranks = rank_scores(values)
    assert torch.allclose(ranks[:4], rank_scores(values[:4].exp()))
    assert ranks[1] == ranks[2]
    assert bool(ranks[4].isnan())
    assert torch.allclose(rank_scores(-values[:4]), -ranks[:4])


# ---- descriptions --------------------------------------------------------------------------


def test_synonyms_are_told_alike_and_others_apart() -> None:
    ours, theirs = (
        describe(Space({name: FloatDistribution(1e-5, 1.0, log=True) for name in names}))
        for names in (("learning_rate", "widget"), ("eta", "gadget"))
    )
    assert torch.equal(ours.roles[0], theirs.roles[0])
    assert torch.equal(ours.identities[0], theirs.identities[0])
    assert ours.roles[0] != 0
    assert ours.roles[1] == theirs.roles[1] == 0
    assert not torch.equal(ours.identities[1], theirs.identities[1])


def test_two_synonyms_in_one_space_are_told_apart_whatever_their_order() -> None:
    names = ["learning_rate", "lr", "momentum"]
    distribution = FloatDistribution(0.0, 1.0)
    one = describe(Space(dict.fromkeys(names, distribution)))
    two = describe(Space(dict.fromkeys(reversed(names), distribution)))
    assert not torch.equal(one.identities[0], one.identities[1])
    assert torch.equal(one.identities, two.identities.flip(0))


# ---- the network ---------------------------------------------------------------------------


def network(seed: int = 0, architecture: Architecture = TINY) -> NeuralProcess:
    torch.manual_seed(seed)
    made = NeuralProcess(architecture).eval().requires_grad_(False)
    # What is learned from zero or almost nothing should matter to the tests.
    for parameter in made.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return made


def batched(description: Description, count: int) -> Description:
    expanded = {name: t.expand(count, *t.shape) for name, t in vars(description).items()}
    return replace(description, **expanded)


def drawn(space: Space, *size: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    flat = space.activate(space.snap(rng.random((math.prod(size), len(space)))))
    return torch.from_numpy(flat).float().view(*size, len(space))


class Study:
    """Inputs of the network, two studies with three past tasks."""

    def __init__(self, space: Space = SPACE, trials: int = 5, past: int = 3) -> None:
        generator = torch.Generator().manual_seed(3)
        self.description = batched(describe(space), 2)
        views = torch.randn(2, trials, 2, generator=generator)
        self.trials = Trials(drawn(space, 2, trials), views)
        self.queries = drawn(space, 2, 4, seed=1)
        past_views = torch.randn(2, past, 7, 2, generator=generator)
        known = torch.ones(2, past, len(space), dtype=torch.bool)
        points = drawn(space, 2, past, 7, seed=2)
        if past:
            known[:, 0, -1] = False
            points[:, 0, :, -1] = torch.nan
        relevance = torch.randn(2, past, generator=generator)
        self.past = PastTrials(Trials(points, past_views), known, None, relevance)

    def answer(self, model: NeuralProcess, past: bool = True) -> Tensor:
        told = self.past if past else None
        return model(self.description, self.trials, self.queries, told).log_masses


def close(one: Tensor, two: Tensor) -> bool:
    return torch.allclose(one, two, atol=1e-5)


def test_the_order_of_hyperparameters_does_not_matter() -> None:
    model, study = network(), Study()
    before = study.answer(model)
    order = torch.randperm(len(SPACE), generator=torch.Generator().manual_seed(1))
    study.description = study.description.permuted(order)
    study.trials = study.trials._replace(points=study.trials.points[..., order])
    study.queries = study.queries[..., order]
    trials = study.past.trials._replace(points=study.past.trials.points[..., order])
    assert study.past.known is not None
    study.past = study.past._replace(trials=trials, known=study.past.known[..., order])
    assert close(before, study.answer(model))


def test_the_order_of_trials_and_past_tasks_does_not_matter() -> None:
    model, study = network(), Study()
    before = study.answer(model)
    backwards = Trials(*(part.flip(1) for part in study.trials))
    past = study.past
    assert past.known is not None
    assert past.relevance is not None
    trials = Trials(*(part.flip(1).flip(2) for part in past.trials))
    study.trials = backwards
    study.past = PastTrials(trials, past.known.flip(1), None, past.relevance.flip(1))
    assert close(before, study.answer(model))


def test_a_reordered_space_is_the_same_space_to_it() -> None:
    """From distributions on, with the choices in another order as well."""
    model = network()
    shuffled = {name: SPACE.distributions[name] for name in reversed(SPACE.names)}
    shuffled["optimizer"] = CategoricalDistribution(("rmsprop", "sgd", "adam"))
    other = Space(shuffled, SPACE.conditions)
    configurations = SPACE.decode(drawn(SPACE, 9).numpy())
    views = torch.randn(1, 9, 2, generator=torch.Generator().manual_seed(0))

    def answer(space: Space) -> Tensor:
        points = torch.from_numpy(space.encode(configurations)).float()[None]
        description = batched(describe(space), 1)
        return model(description, Trials(points, views), points).log_masses

    assert close(answer(SPACE), answer(other))


def test_queries_do_not_see_each_other_nor_studies_of_one_batch() -> None:
    model, study = network(), Study()
    together = study.answer(model)
    study.queries = study.queries[:, 1:2]
    assert close(together[:, 1:2], study.answer(model))
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
    assert close(together[:1], alone.answer(model))


def test_attention_is_that_of_dot_products_less_half_the_squared_distance() -> None:
    """Against the plain formula; a token without a place is at no distance from any query."""
    torch.manual_seed(0)
    block = Block(16, 2).eval().requires_grad_(False)
    tokens, context, at, places = (torch.randn(3, n, 16) for n in (5, 7, 5, 7))
    placed = torch.tensor([True] * 6 + [False])
    key, value = block.keys_and_values(context, places, placed)
    answer = block(tokens, key, value, places=at)

    query = block.query(block.of_tokens(tokens)).view(3, 5, 2, 8).transpose(1, 2)
    plain_key, plain_value = block.keys_and_values(context)
    logits = query @ plain_key.mT / 8**0.5
    for head in range(2):
        rows = slice(head * PLACE_WIDTH, (head + 1) * PLACE_WIDTH)
        weight = block.place.weight[rows] * block.log_sharpness[head].exp()
        distance = torch.cdist(block.of_places(at) @ weight.T, block.of_places(places) @ weight.T)
        logits[:, head] -= 0.5 * distance.square() * placed
    seen = (logits.softmax(-1) @ plain_value).transpose(1, 2).flatten(-2)
    expected = tokens + block.out(seen)
    expected = expected + block.hidden(block.of_hidden(expected))
    assert torch.allclose(answer, expected, atol=1e-4)


def test_padding_says_nothing() -> None:
    """Spaces with fewer hyperparameters, and past tasks with fewer trials."""
    model, study = network(), Study()
    before = study.answer(model)
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
    assert close(before, study.answer(model))


def test_everything_that_is_told_matters() -> None:
    model = network()
    before = Study().answer(model)
    changes = []
    study = Study()
    assert not close(before, study.answer(model, past=False))
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
        assert not close(before, changed.answer(model))


def test_ablations_see_nothing_of_what_they_leave_out_and_the_rest_matters(
    tmp_path: Path,
) -> None:
    study = Study()
    told = study.description
    other = Study()
    other.description = replace(told, facts=told.facts.flip(-2), roles=told.roles.flip(-1))
    for without in ("past", "descriptions"):
        made = network(architecture=replace(TINY, **{without: False}))
        save_weights(made, tmp_path / "weights.safetensors")
        model = load_weights(tmp_path / "weights.safetensors")
        usual = study.answer(model)
        assert close(usual, study.answer(model, past=False)) == (without == "past")
        assert close(usual, other.answer(model)) == (without == "descriptions")


@pytest.mark.parametrize(("count", "trials", "past"), [(1, 0, 0), (24, 3, 2), (40, 500, 200)])
def test_any_size_is_taken(count: int, trials: int, past: int) -> None:
    space = Space({f"x{i}": FloatDistribution(0.0, 1.0) for i in range(count)})
    study = Study(space, trials, past)
    answer = study.answer(network(), past=past > 0)
    assert answer.shape == (2, 4, TINY.bars)
    assert bool(answer.isfinite().all())


def test_gradients_reach_numerical_positions_and_skip_inactive_ones() -> None:
    model, study = network(), Study()
    queries = study.queries.clone().requires_grad_()
    answer = model(study.description, study.trials, queries, study.past)
    answer.mean.sum().backward()
    assert queries.grad is not None
    inactive = study.queries.isnan()
    assert bool(inactive.any())
    assert bool(queries.grad.isfinite().all())
    assert bool((queries.grad[inactive] == 0).all())
    assert bool((queries.grad[..., 0] != 0).all())


def test_the_usual_network_is_as_small_as_promised(tmp_path: Path) -> None:
    model = NeuralProcess()
    assert sum(parameter.numel() for parameter in model.parameters()) <= 4e6
    save_weights(model, tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_size <= 16e6


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    model, study = network(), Study()
    save_weights(model, tmp_path / "weights.safetensors", step="7")
    again = load_weights(tmp_path / "weights.safetensors")
    assert again.architecture == TINY
    assert torch.equal(study.answer(model), study.answer(again))


def test_what_is_no_weights_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="metahpo train surrogate"):
        load_weights(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(tmp_path / "text.safetensors")


def test_views_are_bounded_and_blind_to_padding() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0, -1e12, math.nan]], dtype=torch.float64)
    views = two_views(values, own_scale(values))
    assert bool((views.abs() <= 8.0).all())
    assert bool((views[0, 4] == 0).all())
    assert torch.equal(views[:, :4], two_views(values[:, :4], own_scale(values[:, :4])))
