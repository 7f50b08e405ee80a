"""The neural process over learning curves: its symmetries, its distribution, its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from safetensors.torch import load_file, save_file
from scipy.integrate import quad

from metahpo.surrogate.curves.curve_predictions import (
    CurveDistribution,
    CurveError,
    distribution,
    load_weights,
    predict_curve,
    save_weights,
    shipped_network,
)
from metahpo.surrogate.curves.curve_process import CurveArchitecture, CurveProcess, laplace_bars
from metahpo.surrogate.curves.curve_values import Curves, at_progress, seen_until, tidy
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.network_file import WeightsError
from metahpo.tasks.space import Space
from metahpo.tasks.task import Trial
from metahpo.train.curves.curve_episodes import synthetic_curves
from metahpo.train.surrogate.measure import coverage

SPACE = Space(
    {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "optimizer": CategoricalDistribution(("sgd", "adam")),
        "momentum": FloatDistribution(0.0, 1.0),
    }
)
SMALL = CurveArchitecture(width=16, grid=32, dilations=(1, 4), bars=12)


@pytest.fixture(scope="module")
def network() -> CurveProcess:
    """Untrained, with a last layer that says something."""
    torch.manual_seed(0)
    network = CurveProcess(SMALL)
    torch.nn.init.normal_(network.last.weight, std=0.3)
    return network.eval().requires_grad_(False)


def trial(number: int, steps: int = 40) -> Trial:
    rng = np.random.default_rng(number)
    (configuration,) = SPACE.decode(SPACE.snap(rng.random((1, len(SPACE)))))
    values = 1 - np.arange(1, steps + 1.0) ** -rng.uniform(0.2, 1) + 0.01 * rng.normal(size=steps)
    curve = tuple((float(step), float(value)) for step, value in enumerate(values, 1))
    return Trial(configuration, curve[-1][1], curve=curve)


def told(network: CurveProcess, curve, context=(), **options) -> np.ndarray:
    asked = {"horizon": 40.0, "steps": (25.0, 40.0)} | options
    found = predict_curve(network, SPACE, trial(0).configuration, curve, context=context, **asked)
    return torch.stack([found.mean, found.quantile(0.1), found.quantile(0.9)]).numpy()


PARTIAL = trial(0).curve[:15]
CONTEXT = [trial(number) for number in (1, 2, 3)]


# ---- what cannot matter, and what must -----------------------------------------------------


def test_the_order_of_curves_and_of_reports_does_not_matter(network: CurveProcess) -> None:
    one = told(network, PARTIAL, CONTEXT)
    mixed = [Trial(t.configuration, t.value, curve=t.curve[::-1]) for t in CONTEXT[::-1]]
    np.testing.assert_allclose(told(network, PARTIAL[::-1], mixed), one, rtol=1e-4, atol=1e-6)


def test_other_curves_their_ends_and_the_configuration_matter(network: CurveProcess) -> None:
    alone, some = told(network, PARTIAL), told(network, PARTIAL, CONTEXT)
    changed = list(CONTEXT)
    curve = CONTEXT[0].curve
    changed[0] = Trial(CONTEXT[0].configuration, 3.0, curve=(*curve[:-1], (40.0, 3.0)))
    other = predict_curve(network, SPACE, trial(5).configuration, PARTIAL, horizon=40.0)
    assert not np.allclose(alone, some)
    assert not np.allclose(told(network, PARTIAL, changed), some)
    assert not np.isclose(other.mean.item(), alone[0, 1])


@pytest.mark.parametrize("context", [(), CONTEXT], ids=["alone", "context"])
@pytest.mark.parametrize(("factor", "shift"), [(1.0, 30.0), (100.0, -7.0), (1e-6, 0.0)])
def test_predictions_follow_a_shift_and_another_unit(
    network: CurveProcess, context: list[Trial], factor: float, shift: float
) -> None:
    def moved(curve):
        return tuple((step, factor * value + shift) for step, value in curve)

    others = [Trial(t.configuration, t.value, curve=moved(t.curve)) for t in context]
    expected = factor * told(network, PARTIAL, context) + shift
    found = told(network, moved(PARTIAL), others)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * factor)


def test_the_grid_carries_reports_along_with_their_progress(network: CurveProcess) -> None:
    """What is shifted by whole places of the grid gives the same, shifted: of the channels from
    reports, and of the convolutions where the borders are too far to be seen."""
    progress = torch.tensor([0.25, 0.28, 0.33, 0.41])
    step = 1 / SMALL.grid
    here = network._kernel(network.places, progress, 0)
    there = network._kernel(network.places, progress + 4 * step, 0)
    torch.testing.assert_close(there[4:], here[:-4], atol=1e-5, rtol=1e-4)
    features, told_of = torch.zeros(1, 16, 64), torch.randn(1, 16)
    features[:, :, 30] = 1.0
    shifted = features.roll(4, -1)
    for block in network.blocks:
        features, shifted = block(features, told_of), block(shifted, told_of)
    torch.testing.assert_close(features[..., 15:45], shifted[..., 19:49], atol=1e-5, rtol=1e-4)


def test_progress_itself_matters(network: CurveProcess) -> None:
    """Trainings slow down: the same reports later in a training mean something else."""
    late = tuple((step + 10.0, value) for step, value in PARTIAL)
    assert not np.allclose(told(network, late), told(network, PARTIAL), atol=1e-3)


def test_steps_and_horizon_have_any_unit(network: CurveProcess) -> None:
    def faster(curve):
        return tuple((1000.0 * step, value) for step, value in curve)

    others = [Trial(t.configuration, t.value, curve=faster(t.curve)) for t in CONTEXT]
    scaled = told(network, faster(PARTIAL), others, horizon=4e4, steps=(2.5e4, 4e4))
    np.testing.assert_allclose(scaled, told(network, PARTIAL, CONTEXT), rtol=1e-4, atol=1e-6)


def test_off_grid_reports_of_any_number_in_one_batch_as_alone(network: CurveProcess) -> None:
    rng = np.random.default_rng(0)
    odd = [
        Trial(t.configuration, 0.5, curve=tuple((float(s), float(s) / 50) for s in sorted(steps)))
        for t, steps in zip(CONTEXT, (rng.uniform(0, 40, n) for n in (3, 17, 90)), strict=True)
    ]
    curve = ((0.3, 0.1), (1.7, 0.4), (7.77, 0.5))
    found = told(network, curve, odd)
    assert np.isfinite(found).all()
    # Reports that are not finite are none.
    holes = ((0.3, 0.1), (1.0, float("nan")), (1.7, 0.4), (7.77, 0.5), (8.0, float("-inf")))
    np.testing.assert_allclose(told(network, holes, odd), found, rtol=1e-5)


def test_context_that_tells_nothing_is_passed_over(network: CurveProcess) -> None:
    """Curves without a report so far, or that end before the progress asked for."""
    late = Trial(CONTEXT[0].configuration, 0.5, curve=((30.0, 0.4), (40.0, 0.5)))
    empty = Trial(CONTEXT[0].configuration, None)
    assert np.isfinite(told(network, PARTIAL, [late, empty])).all()
    np.testing.assert_allclose(told(network, PARTIAL, [empty]), told(network, PARTIAL))
    short = Trial(CONTEXT[1].configuration, 0.3, curve=CONTEXT[1].curve[:12])
    assert np.isfinite(told(network, PARTIAL, [short, *CONTEXT])).all()


@pytest.mark.parametrize(
    "values", [(0.5,), (0.5, 0.5, 0.5), (0.1, 0.2, -1e30), (1e300, 2e300, -1e300), (0.0, 0.0)]
)
def test_flat_diverged_and_huge_curves_have_predictions(
    network: CurveProcess, values: tuple[float, ...]
) -> None:
    curve = tuple((float(step), value) for step, value in enumerate(values, 1))
    for context in ([], CONTEXT, [Trial({}, 0, curve=((1.0, -1e20), (40.0, float("nan"))))]):
        context = [Trial(trial(1).configuration, t.value, curve=t.curve) for t in context]
        assert np.isfinite(told(network, curve, context)).all()


def test_a_diverged_other_curve_does_not_spoil_the_unit() -> None:
    values = np.stack([[v for _, v in t.curve] for t in (*CONTEXT, trial(0))])
    values = np.concatenate([values[:1], values])
    progress = torch.linspace(0.025, 1, 40).double().expand(1, 5, 40)
    points = torch.zeros(1, 5, 3)
    now = torch.tensor([0.4])
    before = seen_until(Curves(points, progress, torch.from_numpy(values)[None]), now, 4)
    values[0, 20:] = -1e9
    after = seen_until(Curves(points, progress, torch.from_numpy(values)[None]), now, 4)
    # The median moves a little; the standard deviation would grow by nine orders of magnitude.
    assert abs(float(after.ratio[0, -1] - before.ratio[0, -1])) < np.log(3)


# ---- the distribution ----------------------------------------------------------------------


def test_the_distribution_agrees_with_integrals() -> None:
    torch.manual_seed(1)
    borders, _ = laplace_bars(12)
    bars = BarDistribution(torch.randn(12).double(), borders, torch.full((2,), 30.0))
    found = CurveDistribution(torch.tensor(70.0).double(), torch.tensor(0.5).double(), bars)

    def density(value: float) -> float:
        return float(found.log_density(torch.tensor(value)).exp())

    ends = [-100.0, *(70 + 0.5 * borders.double()).tolist(), 240.0]

    def integral(function, low: float = -100.0) -> float:
        parts = [p for p in ends if p > low]
        return sum(quad(function, a, b)[0] for a, b in zip([low, *parts[:-1]], parts, strict=True))

    assert integral(density) == pytest.approx(1, abs=1e-5)
    assert integral(lambda v: v * density(v)) == pytest.approx(found.mean.item(), abs=1e-3)
    mean = found.mean.item()
    spread = integral(lambda v: (v - mean) ** 2 * density(v))
    assert spread == pytest.approx(found.variance.item(), rel=1e-3)
    gain = integral(lambda v: (v - 71) * density(v), 71.0)
    assert gain == pytest.approx(found.expected_improvement(71.0).item(), rel=1e-3)
    for probability in (0.03, 0.5, 0.9):
        value = found.quantile(probability)
        assert found.cdf(value).item() == pytest.approx(probability, abs=1e-5)
        below = 1 - integral(density, value.item())
        assert below == pytest.approx(probability, abs=1e-4)


def test_untrained_bars_are_a_laplace_distribution() -> None:
    borders, masses = laplace_bars(40)
    assert len(borders) == 39
    assert bool((borders.diff() > 0).all())
    assert float(masses.sum()) == pytest.approx(1, abs=1e-4)
    bars = BarDistribution(masses.log(), borders, torch.full((2,), 30.0))
    # A standard Laplace distribution has its quartiles at log 2.
    quartiles = bars.quantile(torch.tensor([0.25, 0.5, 0.75])).numpy()
    np.testing.assert_allclose(quartiles, [-np.log(2), 0, np.log(2)], atol=0.02)


# ---- values between reports ----------------------------------------------------------------


def test_values_between_reports_agree_with_numpy() -> None:
    rng = np.random.default_rng(0)
    progress, values = rng.random((3, 9)), rng.normal(size=(3, 9))
    progress[1, 5:] = np.nan
    values[2, 3] = np.inf
    ordered, of = tidy(torch.from_numpy(progress), torch.from_numpy(values))
    asked = torch.from_numpy(rng.random((3, 50)))
    found = at_progress(ordered, of, asked).numpy()
    for row in range(3):
        kept = np.isfinite(progress[row]) & np.isfinite(values[row])
        order = np.argsort(progress[row][kept])
        x, y = progress[row][kept][order], values[row][kept][order]
        expected = np.interp(asked[row], x, y, left=np.nan, right=np.nan)
        np.testing.assert_allclose(found[row], expected, atol=1e-9)
    nothing = torch.full((1, 4), torch.nan).double()
    assert bool(at_progress(nothing, nothing, asked[:1]).isnan().all())


# ---- arguments and files -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "options", "message"),
    [
        ((), {}, "no report"),
        (((1.0, float("nan")),), {}, "no report"),
        (PARTIAL, {"horizon": 0.0}, "positive"),
        (PARTIAL, {"horizon": 10.0, "steps": None}, "between 0 and the horizon"),
        (PARTIAL, {"steps": (41.0,)}, "between 0 and the horizon"),
    ],
)
def test_what_cannot_be_predicted_is_said(
    network: CurveProcess, curve, options: dict, message: str
) -> None:
    with pytest.raises(CurveError, match=message):
        told(network, curve, **options)


def test_weights_come_back(network: CurveProcess, tmp_path: Path) -> None:
    save_weights(network, tmp_path / "w.safetensors", seed="0")
    again = load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(told(again, PARTIAL), told(network, PARTIAL))


def test_files_that_are_no_weights_are_refused(network: CurveProcess, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="metahpo train curves"):
        load_weights(tmp_path / "none")
    (tmp_path / "text").write_text("weights")
    save_weights(network, tmp_path / "good")
    tensors = load_file(tmp_path / "good")
    save_file(tensors, tmp_path / "sizeless")
    del tensors["borders"]
    save_file(tensors, tmp_path / "partial", {"architecture": '{"dilations": [1]}'})
    for name in ("text", "sizeless", "partial"):
        with pytest.raises(WeightsError, match="metahpo train curves"):
            load_weights(tmp_path / name)


# ---- the weights that come with the package ------------------------------------------------


@pytest.mark.parametrize("context", [0, 8])
def test_the_shipped_network_is_calibrated_on_the_prior(context: int) -> None:
    """Of 1,200 final values in 200 studies; curves of a study are not independent.

    If they were one observation a study, a share of 80% would have a standard error of 2.8
    points, one of 50% of 3.5: with four of them on either side, one run in 10,000 would fail by
    chance if the seed were not fixed.
    """
    batch = synthetic_curves(200, context, torch.Generator().manual_seed(11))
    network = shipped_network()
    with torch.no_grad():
        answer = network(batch.description, batch.curves, batch.now, batch.asked[:, :1], context)
    told = distribution(network, answer)
    targets = batch.targets[:, context:, :1]
    known = targets.isfinite()
    places = told.cdf(targets.nan_to_num(0.0))[known]
    half, most, nearly_all = coverage(places)
    assert half == pytest.approx(0.5, abs=0.14)
    assert most == pytest.approx(0.8, abs=0.115)
    assert nearly_all > 0.88
    # Better than a Laplace distribution around the last value, fitted to these very targets, which
    # are cut off as in training.
    moves = answer.seen.relative(batch.targets[:, :, :1])[:, context:]
    units, last = (
        part[:, context:].unsqueeze(-1) for part in (answer.seen.unit, answer.seen.last)
    )
    density = told.log_density((last + units * moves).nan_to_num(0.0)) + units.log()
    laplace = -(2 * np.e * moves[known].abs().mean()).log()
    assert float(density[known].mean()) > float(laplace) + 0.4


def test_the_shipped_network_extrapolates_a_power_law() -> None:
    """From a quarter of it, within a third of how far the last value is off."""
    steps = np.arange(1, 53)
    for power in (0.4, 0.7):
        values = 0.9 - 0.5 * steps**-power
        curve = [(float(s), float(v)) for s, v in zip(steps[:13], values[:13], strict=True)]
        told = predict_curve(shipped_network(), SPACE, trial(0).configuration, curve, horizon=52.0)
        assert abs(told.quantile(0.5).item() - values[-1]) < (values[-1] - values[12]) / 3
        assert values[12] < told.quantile(0.9).item()
