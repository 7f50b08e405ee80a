"""The mixture of two surrogates: weights that follow from the evidence, and what is mixed."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from metahpo.settings import DEFAULT_SETTINGS, Effort, TrustSettings
from metahpo.surrogate.contract import Improvement
from metahpo.surrogate.mixture import Mixture, misleads, mix

SETTINGS = TrustSettings()
POINTS = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, eq=False)
class Line:
    """A surrogate whose expected improvement is ``slope`` times the first coordinate."""

    slope: float = 1.0
    log_densities: np.ndarray = field(default_factory=lambda: np.zeros(4))
    effort: Effort = DEFAULT_SETTINGS.search.effort
    task_weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    trust: float | None = None
    pending: int = 0

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.slope * points[:, 0], np.full(len(points), self.slope)

    def improvement(self, points: Tensor) -> Improvement:
        expected = self.slope * points[..., 0]
        return Improvement(expected.log(), expected / (1.0 + expected))

    def condition_on_pending(self, points: np.ndarray) -> "Line":
        return replace(self, pending=self.pending + len(points))


INFORMED = Line(2.0, np.zeros(4), Effort(samples=64), np.array([0.7, 0.3]), 1.0)
TARGET = Line(0.5)


def mixture(log_odds: float) -> Mixture:
    """Both surrogates with these odds for the informed one."""
    return mix(INFORMED, TARGET, replace(SETTINGS, prior_log_odds=log_odds))


def weights(made: Mixture) -> list[float]:
    return [member.weight for member in made.members]


# ---- one surrogate -------------------------------------------------------------------------


def test_an_informed_surrogate_alone_has_all_the_trust():
    made = mix(INFORMED, None, SETTINGS)
    assert [member.surrogate for member in made.members] == [INFORMED]
    assert (weights(made), made.trust) == ([1.0], 1.0)


def test_a_target_only_surrogate_alone_leaves_nothing_to_trust():
    made = mix(None, TARGET, SETTINGS)
    assert [member.surrogate for member in made.members] == [TARGET]
    assert (weights(made), made.trust) == ([1.0], None)


def test_a_mixture_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="needs a surrogate"):
        mix(None, None, SETTINGS)


@pytest.mark.parametrize("alone", [mix(INFORMED, None, SETTINGS), mix(None, INFORMED, SETTINGS)])
def test_the_mixture_of_one_surrogate_is_that_surrogate(alone):
    for found, expected in zip(
        alone.improvement(POINTS), INFORMED.improvement(POINTS), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    np.testing.assert_array_equal(alone.predict(POINTS.numpy()), INFORMED.predict(POINTS.numpy()))
    np.testing.assert_array_equal(alone.log_densities, INFORMED.log_densities)
    np.testing.assert_array_equal(alone.task_weights, INFORMED.task_weights)
    assert alone.effort == INFORMED.effort


# ---- the weights ---------------------------------------------------------------------------

densities = st.floats(-10, 10) | st.just(math.nan)
pairs = st.lists(st.tuples(densities, densities), max_size=8)


def plain_advantage(pairs: list[tuple[float, float]], most: float) -> float:
    """One trial after another, without the first."""
    total = 0.0
    for one, other in pairs[1:]:
        if not math.isnan(one) and not math.isnan(other):
            total += min(max(one - other, -most), most)
    return total


def two(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.array(pairs, float).reshape(-1, 2).T
    return one, other


@given(pairs, st.floats(-5, 5), st.floats(0, 30), st.floats(0.5, 4))
def test_the_trust_follows_from_prior_odds_evidence_and_contradiction(pairs, prior, against, most):
    one, other = two(pairs)
    made = mix(
        replace(INFORMED, log_densities=one),
        replace(TARGET, log_densities=other),
        replace(SETTINGS, prior_log_odds=prior, most_per_trial=most),
        against,
    )
    log_odds = prior + plain_advantage(pairs, most) - against
    assert made.trust == pytest.approx(1 / (1 + math.exp(-log_odds)))


@given(pairs, st.floats(-5, 5), st.floats(0.5, 4))
def test_past_tasks_mislead_where_the_odds_are_against_them(pairs, prior, most):
    with_past, without_past = two(pairs)
    settings = replace(SETTINGS, past_prior_log_odds=prior, most_per_trial=most)
    log_odds = prior + plain_advantage(pairs, most)
    assert misleads(with_past, without_past, settings) == (log_odds < 0.0)


def test_without_evidence_the_prior_decides():
    assert mix(INFORMED, TARGET, SETTINGS).trust == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert not misleads(np.zeros(4), np.zeros(4), SETTINGS)


def test_one_trial_does_not_decide_everything():
    surprise = np.array([0.0, 0.0, -1e6, 0.0])
    made = mix(replace(INFORMED, log_densities=surprise), TARGET, SETTINGS)
    assert made.trust == pytest.approx(1 / (1 + math.exp(-(2.0 - SETTINGS.most_per_trial))))


@pytest.mark.parametrize("contradiction", [1e3, 1e300])
def test_overwhelming_evidence_does_not_overflow(contradiction):
    made = mix(INFORMED, TARGET, SETTINGS, contradiction)
    assert made.trust == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("log_odds", [-6.0, -1.0, 0.5, 6.0])
def test_the_heaviest_comes_first_and_weights_sum_to_one(log_odds):
    made = mixture(log_odds)
    assert sum(weights(made)) == pytest.approx(1.0)
    assert weights(made) == sorted(weights(made), reverse=True)
    assert [m.weight for m in made.members if m.informed] == [made.trust]
    assert made.members[0].informed == (log_odds > 0)


@pytest.mark.parametrize(("log_odds", "kept"), [(-8.0, [TARGET]), (8.0, [INFORMED])])
def test_a_negligible_surrogate_is_left_out(log_odds, kept):
    made = mixture(log_odds)
    assert [member.surrogate for member in made.members] == kept
    # The trust is what it would be all the same.
    assert made.trust == pytest.approx(1 / (1 + math.exp(-log_odds)))


# ---- what is mixed -------------------------------------------------------------------------


@pytest.mark.parametrize("log_odds", [-1.0, 0.0, 2.0])
def test_improvements_are_weighed_means(log_odds):
    made = mixture(log_odds)
    found = made.improvement(POINTS)
    each = [(m.weight, m.surrogate.improvement(POINTS)) for m in made.members]
    expected = sum(weight * improvement.log_expected.exp() for weight, improvement in each)
    probability = sum(weight * improvement.probability for weight, improvement in each)
    torch.testing.assert_close(found.log_expected.exp(), expected)
    torch.testing.assert_close(found.probability, probability)


def test_gradients_flow_through_every_member():
    points = POINTS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture(0.0).improvement(points).log_expected.sum(), points)
    # The logarithm of a multiple of the first coordinate.
    expected = torch.stack([1.0 / POINTS[:, 0], torch.zeros(5, dtype=torch.float64)], -1)
    torch.testing.assert_close(gradient, expected)


def test_densities_are_weighed_means():
    one, other = np.array([-1.0, -2.0, -30.0]), np.array([-3.0, -1.0, 0.0])
    made = mix(
        replace(INFORMED, log_densities=one), replace(TARGET, log_densities=other), SETTINGS
    )
    trust = made.trust
    assert trust is not None
    expected = np.log(trust * np.exp(one) + (1 - trust) * np.exp(other))
    np.testing.assert_allclose(made.log_densities, expected)


@pytest.mark.parametrize("other", [None, TARGET])
def test_a_density_that_is_not_known_stays_so(other):
    partly = np.array([np.nan, -1.0, np.nan, 0.0])
    made = mix(replace(INFORMED, log_densities=partly), other, SETTINGS)
    np.testing.assert_array_equal(np.isnan(made.log_densities), np.isnan(partly))


@pytest.mark.parametrize(("log_odds", "heaviest"), [(-1.0, TARGET), (1.0, INFORMED)])
def test_the_heaviest_member_predicts(log_odds, heaviest):
    points = POINTS.numpy()
    np.testing.assert_array_equal(mixture(log_odds).predict(points), heaviest.predict(points))


@pytest.mark.parametrize(
    ("log_odds", "leading"), [(-8.0, TARGET), (-1.0, INFORMED), (8.0, INFORMED)]
)
def test_the_informed_member_sets_effort_and_task_weights_while_it_carries_weight(
    log_odds, leading
):
    made = mixture(log_odds)
    assert made.effort == leading.effort
    np.testing.assert_array_equal(made.task_weights, leading.task_weights)


def test_every_member_is_conditioned_on_pending_trials_and_weights_stay():
    made = mixture(0.5)
    later = made.condition_on_pending(np.zeros((3, 2)))
    assert [member.surrogate.pending for member in later.members] == [3, 3]
    assert [member.surrogate.pending for member in made.members] == [0, 0]
    assert (weights(later), later.trust) == (weights(made), made.trust)
