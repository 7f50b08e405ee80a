"""Which trials of a long study surrogates see: few, and for every worker the same."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from metahpo.settings import DEFAULT_SETTINGS, ContextSettings, TrustSettings
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.registry import surrogate_family, surrogate_names
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.surrogate.study_context import context_rows
from metahpo.tasks.space import Space

SPACE = Space(
    {
        "x": FloatDistribution(0, 1),
        "y": FloatDistribution(0, 1),
        "c": CategoricalDistribution(["a", "b", "c"]),
    }
)
SETTINGS = ContextSettings(most=60, latest=20, step=10, kept=40, best=20)


def study(count: int, seed: int = 0, spread: float = 0.05) -> StudyArrays:
    """Trials around one place, a few of them elsewhere, in no order."""
    rng = np.random.default_rng(seed)
    points = SPACE.snap(np.clip(0.3 + spread * rng.standard_normal((count, 3)), 0, 1))
    points[::40] = SPACE.snap(rng.random((len(points[::40]), 3)))
    values = -np.square(points[:, :2] - 0.31).sum(axis=1)
    return StudyArrays(SPACE, points, values, pending=points[:0], taken=points)


def first(trials: StudyArrays, count: int) -> StudyArrays:
    return replace(trials, points=trials.points[:count], values=trials.values[:count])


def rows_of(trials: StudyArrays, count: int, history: AlignedHistory | None = None) -> list[int]:
    return context_rows(trials, history or AlignedHistory(SPACE), SETTINGS, count).tolist()


@pytest.mark.parametrize("count", [0, 1, 59, 60])
def test_a_study_that_is_not_long_is_seen_whole(count):
    assert rows_of(study(80), count) == list(range(count))


def test_of_a_long_one_the_latest_trials_and_some_earlier_ones_are_seen():
    trials, history = study(400), AlignedHistory(SPACE)
    for count in range(61, 401):
        rows = rows_of(trials, count, history)
        assert rows == sorted(set(rows))
        assert SETTINGS.kept + SETTINGS.latest <= len(rows) <= SETTINGS.most + SETTINGS.step
        assert rows[-SETTINGS.latest :] == list(range(count - SETTINGS.latest, count))
        assert int(np.argmax(trials.values[:count])) in rows


def test_the_choice_depends_on_the_first_trials_alone():
    """A worker that begins later, with an empty cache, sees the same."""
    trials, history = study(400), AlignedHistory(SPACE)
    kept = [rows_of(trials, count, history) for count in range(61, 401)]
    for count in (61, 123, 299, 400):
        assert rows_of(first(trials, count), count) == kept[count - 61]


def test_all_regions_that_were_explored_are_seen():
    trials = study(400)
    rows = rows_of(trials, 380)
    gaps = np.abs(trials.points[:380, None] - trials.points[rows])
    gaps[..., 2] = gaps[..., 2] > 0
    # Of 380 trials 60 are seen; random ones leave trials that are 0.5 and more off.
    assert np.sqrt(np.square(gaps).sum(-1)).min(axis=1).max() < 0.1


@pytest.mark.parametrize("surrogate", surrogate_names())
def test_surrogates_of_long_studies_are_those_of_the_trials_that_they_see(surrogate):
    """Predictions at the seen trials agree with values, and only these have densities."""
    trust = TrustSettings(evidence_trials=10)
    settings = replace(DEFAULT_SETTINGS, context=SETTINGS, trust=trust)
    trials = study(150)
    fitted = surrogate_family(surrogate).fit(trials, AlignedHistory(SPACE), settings)
    rows = rows_of(trials, 150)
    known = np.isfinite(fitted.members[-1].surrogate.log_densities)
    assert set(np.flatnonzero(known)) <= set(rows)
    mean, _ = fitted.predict(trials.points[rows])
    assert np.corrcoef(mean, trials.values[rows])[0, 1] > 0.9


def test_the_first_trial_that_a_process_sees_is_no_evidence():
    """Nothing came before it; of a long study it need not be the first of all."""
    settings = replace(DEFAULT_SETTINGS, context=SETTINGS)
    trials = study(150)
    rows = rows_of(trials, 150)
    fitted = surrogate_family("gp").fit(trials, AlignedHistory(SPACE), settings)
    known = np.isfinite(fitted.members[0].surrogate.log_densities)
    assert np.flatnonzero(known).tolist() == rows[1:]


def test_what_surrogates_hold_does_not_grow_with_the_study():
    family = surrogate_family("gp")
    settings = replace(DEFAULT_SETTINGS, context=SETTINGS)
    for count in (100, 2000):
        fitted = family.fit(study(count), AlignedHistory(SPACE), settings)
        model = fitted.members[0].surrogate.model
        assert len(model.X) <= SETTINGS.most + SETTINGS.step
