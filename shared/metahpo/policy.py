"""What to try next: the one entry to everything below.

``suggest`` is a function of the task so far, the history and a seed. Nothing is remembered
between calls but caches of fits, under the data they were made from.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from metahpo.acquisition import MixtureLogEI, maximise
from metahpo.alignment import AlignedTask, align
from metahpo.decision import Decision, Source
from metahpo.portfolio import greedy_portfolio
from metahpo.shrink import Box, natural_bounds, promising_box, widen
from metahpo.similarity import metafeature_weights, relevance, sharpen
from metahpo.space import Array, Condition, Configuration, Space, infer_conditions
from metahpo.surrogate import Fitted, PastModels, Surrogate, build, fit_parameters
from metahpo.task import Task, Trial

logger = logging.getLogger(__name__)

# Past tasks that are modelled; the most relevant ones of a longer history.
MAXIMUM_PAST_TASKS = 100
# Trials from the portfolio before the surrogate is asked. It needs one to adapt.
PORTFOLIO_TRIALS = 1
# The past's best configurations that the acquisition function is always evaluated at.
CANDIDATES = 100
CANDIDATES_PER_TASK = 5
# Below this trust the space is not shrunk.
SHRINK_TRUST = 0.5
# Hyperparameters are fitted anew when a study has grown by this factor.
REFIT_GROWTH = 1.1
REFIT_ALWAYS_UNTIL = 10
# Past tasks that a decision names.
NAMED_TASKS = 5


@dataclass(frozen=True)
class Switches:
    """Parts of the policy that a benchmark can turn off; users have no reason to."""

    portfolio: bool = True
    transfer: bool = True
    trust: bool = True
    shrink: bool = True
    metafeatures: bool = True


def suggest(
    task: Task,
    history: Sequence[Task],
    *,
    count: int = 1,
    seed: int = 0,
    switches: Switches = Switches(),
) -> Decision:
    """Configurations to run next.

    Args:
        task: The task so far, running trials included; its space is what is searched.
        history: Past tasks.
        count: How many configurations.
        seed: Of everything random.
        switches: Parts to turn off.

    Returns:
        The configurations and the reasons. The same arguments give the same decision.

    Raises:
        ValueError: For a count below 1 or a space without hyperparameters.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not len(task.space):
        raise ValueError("the space has no hyperparameters")
    past = _prepare(task, history, switches)
    study = _study(task, past.space)
    rng = np.random.default_rng(seed)
    if past.models is None and len(study.values) < _space_filling_trials(study.space):
        return _fill_space(study, count, rng)
    if past.models is not None and len(study.values) < PORTFOLIO_TRIALS:
        return _from_portfolio(study, past, count, rng)
    if not len(study.values):
        return _fill_space(study, count, rng)
    return _from_surrogate(study, past, count, rng, switches)


def expected_space(history: Sequence[Task], metafeatures: Mapping[str, float]) -> Space | None:
    """The space that a new task will probably have, before its host tells.

    Args:
        history: Past tasks.
        metafeatures: The new task's.

    Returns:
        The space that the past tasks of largest weight share; None without any.
    """
    if not history:
        return None
    weights = metafeature_weights(metafeatures, [task.metafeatures for task in history])
    votes: dict[tuple[tuple[str, str], ...], float] = {}
    spaces: dict[tuple[tuple[str, str], ...], Space] = {}
    for task, weight in zip(history, weights, strict=True):
        key = tuple(sorted(task.space.to_json().items()))
        votes[key] = votes.get(key, 0.0) + float(weight)
        spaces.setdefault(key, task.space)
    return spaces[max(votes, key=lambda key: votes[key])]


# ---- the past ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Past:
    """History as the present space sees it.

    Attributes:
        space: The present space, with the conditions that history shows.
        tasks: t aligned tasks.
        relevance: t weights that sum to 1.
        models: None where nothing overlaps.
        portfolio: k x d configurations to start with.
        candidates: m x d, the past's best configurations.
    """

    space: Space
    tasks: tuple[AlignedTask, ...] = ()
    relevance: Array = field(default_factory=lambda: np.empty(0))
    models: PastModels | None = None
    portfolio: Array = field(default_factory=lambda: np.empty((0, 0)))
    candidates: Array = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        if self.models is None:
            object.__setattr__(self, "portfolio", np.empty((0, len(self.space))))
            object.__setattr__(self, "candidates", np.empty((0, len(self.space))))


def _prepare(task: Task, history: Sequence[Task], switches: Switches) -> _Past:
    """The past for this task, kept for as long as the same history is passed."""
    metafeatures = dict(task.metafeatures) if switches.metafeatures else {}
    conditions = _conditions(task, history)
    space = _with_unreached(task, history, conditions).with_conditions(conditions)
    key = (
        tuple(id(past) for past in history),
        # Their text: in JSON, lists and tuples among the choices would look the same.
        tuple((name, repr(distribution)) for name, distribution in space.distributions.items()),
        tuple(sorted((n, repr(c)) for n, c in space.conditions.items())),
        tuple(sorted(metafeatures.items())),
    )
    # The history is kept beside what was made from it: its tasks' ids stay theirs.
    return _cached(_pasts, key, lambda: (_view(space, metafeatures, history), list(history)))[0]


def _view(space: Space, metafeatures: Mapping[str, float], history: Sequence[Task]) -> _Past:
    pairs = [(task, align(task, space)) for task in history]
    aligned = [(task, view) for task, view in pairs if view is not None]
    if not aligned:
        return _Past(space)
    weights = relevance(
        metafeatures,
        [task.metafeatures for task, _ in aligned],
        np.array([view.overlap for _, view in aligned]),
    )
    # Of equally relevant tasks the longer ones tell more.
    lengths = np.array([len(view.values) for _, view in aligned])
    chosen = np.lexsort((-lengths, -weights))[:MAXIMUM_PAST_TASKS]
    chosen = np.sort(chosen)
    tasks = tuple(aligned[index][1] for index in chosen)
    weights = weights[chosen] / weights[chosen].sum()
    models = PastModels(tasks, space)
    candidates = _best_configurations(tasks, space)
    scores = models.predict(space.features(candidates))
    best = np.argsort(-(scores @ weights), kind="stable")[:CANDIDATES]
    size = min(PORTFOLIO_TRIALS + 7, len(candidates))
    portfolio = candidates[greedy_portfolio(scores, weights, size)]
    return _Past(space, tasks, weights, models, portfolio, candidates[best])


def _best_configurations(tasks: Sequence[AlignedTask], space: Space) -> Array:
    """The best trials of each past task, as points that exist in the present space.

    A trial outside the present bounds was another configuration; it stands only where no
    other is left.
    """
    share = max(CANDIDATES_PER_TASK, 300 // len(tasks))
    points = np.concatenate(
        [task.points[np.argsort(-task.values, kind="stable")[:share]] for task in tasks]
    )
    outside = (np.abs(points - 0.5) > 0.5 + 1e-9).any(axis=1)
    empty = np.isnan(points).all(axis=1)
    if not (outside | empty).all():
        points = points[~(outside | empty)]
    return np.unique(space.activate(space.snap(points)), axis=0)


def _conditions(task: Task, history: Sequence[Task]) -> dict[str, Condition]:
    """Conditions stated by the task's space, or else shown by its trials and by history's."""
    if task.space.conditions:
        return dict(task.space.conditions)
    finished = [trial.configuration for trial in task.trials if trial.value is not None]
    shown = _cached(
        _shown_conditions,
        tuple(id(past) for past in history),
        lambda: (
            infer_conditions(
                [past.space for past in history],
                [[trial.configuration for trial in past.trials] for past in history],
            ),
            list(history),
        ),
    )[0]
    own = infer_conditions([task.space], [finished])
    # What the task's own trials contradict is dropped.
    kept = {
        name: condition
        for name, condition in shown.items()
        if name not in own and all(_agrees(name, condition, row) for row in finished)
    }
    return {**kept, **own}


def _with_unreached(
    task: Task, history: Sequence[Task], conditions: Mapping[str, Condition]
) -> Space:
    """The task's space and what its trials have had no occasion to ask for.

    A define-by-run study that has only tried Adam does not know that SGD has a momentum;
    history does, and where the study's trials never met the condition, it is believed.
    """
    rows = [trial.configuration for trial in task.trials]
    known = {name: d for past in history for name, d in past.space.distributions.items()}
    unreached = {
        name: known[name]
        for name, condition in conditions.items()
        if name not in task.space
        and condition.parent in task.space
        and not any(
            condition.admits(row[condition.parent]) for row in rows if condition.parent in row
        )
    }
    if not unreached:
        return task.space
    return Space({**task.space.distributions, **unreached}, task.space.conditions)


def _agrees(name: str, condition: Condition, configuration: Configuration) -> bool:
    if condition.parent not in configuration:
        return name not in configuration
    return (name in configuration) == condition.admits(configuration[condition.parent])


# ---- the present ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Study:
    """The task so far in arrays.

    Attributes:
        space: With conditions.
        points: n x d observed trials.
        values: n; a failed trial counts as the worst one seen.
        running: m x d.
        tried: Every configuration that must not be repeated.
    """

    space: Space
    points: Array
    values: Array
    running: Array
    tried: frozenset[bytes]

    @property
    def best(self) -> Array:
        """N x d, the best trials first."""
        return self.points[np.argsort(-self.values, kind="stable")]


def _study(task: Task, space: Space) -> _Study:
    observed, failed = task.observed, task.failed
    values = [float(trial.value) for trial in observed if trial.value is not None]
    if values:
        # What failed is as bad as the worst that did not: the model learns to stay away.
        observed, values = [*observed, *failed], values + [min(values)] * len(failed)
    points = _points(space, observed)
    running = _points(space, task.running)
    tried = np.concatenate([points, running, _points(space, failed)])
    return _Study(
        space, points, np.asarray(values, dtype=float), running, frozenset(map(_key, tried))
    )


def _points(space: Space, trials: Sequence[Trial]) -> Array:
    return space.snap(space.encode([trial.configuration for trial in trials]))


def _key(point: Array) -> bytes:
    return np.nan_to_num(point, nan=-1.0).round(9).tobytes()


# ---- three ways to decide ------------------------------------------------------------------


def _space_filling_trials(space: Space) -> int:
    return int(np.clip(2 + len(space) // 2, 4, 8))


def _fill_space(study: _Study, count: int, rng: np.random.Generator) -> Decision:
    """Configurations far from all others."""
    points = (
        study.points if not len(study.running) else np.concatenate([study.points, study.running])
    )
    chosen: list[Array] = []
    for _ in range(count):
        point = _farthest(study.space, np.concatenate([points, *[p[None] for p in chosen]]), rng)
        chosen.append(point)
    return Decision(
        configurations=tuple(study.space.decode(np.stack(chosen))),
        source=Source.SPACE_FILLING,
        reason="No history and few trials yet: a configuration far from those tried.",
    )


def _spread(
    study: _Study, chosen: Sequence[Array], count: int, rng: np.random.Generator
) -> list[Array]:
    """The chosen points, and as many far from them and from all tried as make up the count."""
    chosen = list(chosen)
    while len(chosen) < count:
        taken = np.concatenate([study.points, study.running, *[point[None] for point in chosen]])
        chosen.append(_farthest(study.space, taken, rng))
    return chosen


# Random configurations of which the farthest from all others is taken (Mitchell 1991).
SPREAD_CANDIDATES = 64


def _farthest(space: Space, points: Array, rng: np.random.Generator) -> Array:
    """One point; distances wrap around, so that corners are not preferred."""
    candidates = rng.random((SPREAD_CANDIDATES, len(space)))
    if len(points):
        placed = np.where(np.isnan(points), 0.5, points)
        gaps = np.abs(candidates[:, None, :] - placed[None, :, :])
        distances = np.minimum(gaps, 1.0 - gaps)
        candidates = candidates[[np.argmax((distances**2).sum(-1).min(axis=1))]]
    return space.activate(space.snap(candidates[:1]))[0]


def _from_portfolio(study: _Study, past: _Past, count: int, rng: np.random.Generator) -> Decision:
    """What did best over the past tasks, in the portfolio's order."""
    fresh = [point for point in past.portfolio if _key(point) not in study.tried][:count]
    fresh = _spread(study, fresh, count, rng)
    return Decision(
        configurations=tuple(study.space.decode(np.stack(fresh))),
        source=Source.PORTFOLIO,
        reason=f"Did best, on average, over {len(past.tasks)} past tasks.",
        past_tasks=_heaviest(past, past.relevance),
        trust=1.0,
    )


def _from_surrogate(
    study: _Study, past: _Past, count: int, rng: np.random.Generator, switches: Switches
) -> Decision:
    """What the surrogate expects the largest improvement from."""
    surrogate = _surrogate(study, past, switches)
    box = _box(study, past, surrogate, switches)
    chosen: list[Array] = []
    for _ in range(count):
        waiting = np.concatenate([study.running, *[point[None] for point in chosen]])
        believed = surrogate.believing(study.space.features(waiting))
        points = maximise(
            MixtureLogEI(surrogate, believed),
            study.space,
            box,
            study.best,
            past.candidates,
            rng,
        )
        tried = study.tried | {_key(point) for point in chosen}
        chosen.append(_first_fresh(points, tried, study, rng))
    mean, deviation = surrogate.predict(study.space.features(chosen[0][None]))
    transferred = surrogate.transferred
    return Decision(
        configurations=tuple(study.space.decode(np.stack(chosen))),
        source=Source.ACQUISITION,
        reason="Largest expected improvement over the best trial so far.",
        past_tasks=_heaviest(past, transferred.model.task_weights) if transferred else (),
        trust=surrogate.trust,
        mean=mean,
        deviation=deviation,
        shrunk=natural_bounds(box, study.space),
    )


def _surrogate(study: _Study, past: _Past, switches: Switches) -> Surrogate:
    owner = study.space.feature_owner
    X = study.space.features(study.points)
    models = past.models if switches.transfer else None
    rho = past.relevance
    fitted = _fitted(X, study.values, owner, models, rho)
    if not switches.trust and fitted.transfer is not None:
        fitted = replace(fitted, target=None)
    return build(X, study.values, owner, models, rho, fitted)


def _fitted(
    X: Array, values: Array, owner: tuple[int, ...], models: PastModels | None, rho: Array
) -> Fitted:
    """Hyperparameters fitted to the study's first trials, as many as the schedule says.

    A fit serves until the study has grown by a tenth. It depends on those first trials alone,
    so that a restarted or second worker, whose cache is empty, comes to the same numbers.
    """
    count = _scheduled(len(values))
    X, values = X[:count], values[:count]
    key = (id(models), X.tobytes(), values.tobytes(), X.shape)
    return _cached(_fits, key, lambda: (fit_parameters(X, values, owner, models, rho), models))[0]


def _scheduled(count: int) -> int:
    """The largest number of the refitting schedule that is at most ``count``."""
    scheduled = min(count, REFIT_ALWAYS_UNTIL)
    while (following := int(np.ceil(scheduled * REFIT_GROWTH))) <= count:
        scheduled = max(following, scheduled + 1)
        if scheduled >= count:
            return count
    return scheduled


def _box(study: _Study, past: _Past, surrogate: Surrogate, switches: Switches) -> Box:
    trusted = surrogate.trust is not None and surrogate.trust >= SHRINK_TRUST
    if not switches.shrink or not past.tasks or not trusted:
        return Box.full(study.space)
    assert past.models is not None
    predictions = past.models.predict(study.space.features(study.points))
    weights = sharpen(past.relevance, study.values, predictions)
    box = promising_box(past.tasks, weights, study.space)
    return widen(box, study.points, study.values, study.space)


def _first_fresh(
    points: Array, tried: set[bytes] | frozenset[bytes], study: _Study, rng: np.random.Generator
) -> Array:
    """The first point not tried before; near the first one where all were."""
    for point in points:
        if _key(point) not in tried:
            return point
    space = study.space
    start = np.where(np.isnan(points[0]), 0.5, points[0])
    for scale in np.geomspace(0.05, 1.0, 20):
        moved = start + scale * rng.standard_normal(len(space))
        point = space.activate(space.snap(moved[None]))[0]
        if _key(point) not in tried:
            return point
    # A small discrete space can be used up: repeat the best.
    return points[0]


def _heaviest(past: _Past, weights: Array) -> tuple[tuple[str, float], ...]:
    """Names and shares of the past tasks that carry most weight, by its absolute amount."""
    total = float(np.abs(weights).sum())
    if not total:
        return ()
    order = np.argsort(-np.abs(weights), kind="stable")[:NAMED_TASKS]
    return tuple((past.tasks[i].name, float(weights[i]) / total) for i in order)


# ---- caches --------------------------------------------------------------------------------

_T = TypeVar("_T")
_pasts: OrderedDict[Hashable, Any] = OrderedDict()
_fits: OrderedDict[Hashable, Any] = OrderedDict()
_shown_conditions: OrderedDict[Hashable, Any] = OrderedDict()
CACHE_SIZE = 16


def _cached(cache: OrderedDict[Hashable, Any], key: Hashable, make: Callable[[], _T]) -> _T:
    """The cached value, made if absent; the longest unused one gives way.

    Threads may make a value twice; both are the same.
    """
    if key in cache:
        value = cache.pop(key)
    else:
        value = make()
        while len(cache) >= CACHE_SIZE:
            cache.popitem(last=False)
    cache[key] = value
    return value
